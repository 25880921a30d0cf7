"""Checkpoints in pieces, written by all processes together: whole on all of them, or failed on all of them alike."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard
from torch.optim import Optimizer

from vidssl.files import sync
from vidssl.nets.gather import rank, world
from vidssl.pieces import Keys, Stored, code_of, encoded, write_index, write_piece
from vidssl.types import UserError


class Unwritten(UserError):
    """A checkpoint could not be written, as on a full disk; those before it are as they were, and training can go on."""


def save_folder(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write `checkpoint` as a folder in pieces, atomically; called by all processes alike. Sharded tensors are not put together for it.

    Everything is written into a hidden folder beside `path`, flushed, and read back by the process that wrote it; the first process looks whether all files are
    there, which they are not on a disk that processes do not share, writes the index and renames the folder.

    Raises:
        Unwritten: on all processes, with the first failure of any; what was at `path` is as it was.
        UserError: on all processes: weights that are not finite, or what is neither a tensor nor a plain value.
    """
    target, token = everyone((str(path), secrets.token_hex(4)))[0]
    final = Path(target)
    draft, aside = (final.with_name(f".{final.stem[:40]}-{token}{end}.ckpt") for end in ("", "-old"))
    mine, shared = _own(checkpoint)  # before anything can fail in one process alone: it may need all of them
    try:
        _together(lambda: draft.mkdir(parents=True) if rank() == 0 else None, final)
        name = f"rank-{rank()}-of-{world()}.safetensors"
        reports = _together(lambda: (name, *_write(draft / name, mine, shared, checkpoint), {key: len(t) for key, t in mine.items() if key in shared}), final)

        def finish() -> None:
            for each, size, _, _ in reports:
                if (draft / each).stat().st_size != size:
                    raise OSError(f"{each} has not arrived")
            rows = {each: lengths for each, _, _, lengths in reports}
            tree = encoded(checkpoint, lambda keys, tensor: _describe(keys, tensor, name, rows))
            write_index(draft, tree, {each: (size, digest) for each, size, digest, _ in reports})
            with suppress(OSError):  # some file systems cannot flush a folder
                sync(draft)
            if final.exists():
                os.rename(final, aside)
            try:
                os.rename(draft, final)
            except OSError:
                if aside.exists():
                    os.rename(aside, final)
                raise
            with suppress(OSError):
                sync(final.parent)

        _together(lambda: finish() if rank() == 0 else None, final)
    finally:
        if rank() == 0:
            for left in (draft, aside):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def everyone(value: Any) -> list[Any]:
    """What all processes have, by rank; small plain values."""
    if world() == 1:
        return [value]
    values = [None] * world()
    dist.all_gather_object(values, value)
    return values


def _together(work: Callable[[], Any], final: Path) -> list[Any]:
    """What `work` gives on each process; its failure on any is a failure on all."""
    made, failed = None, None
    try:
        made = work()
    except UserError as error:
        failed = ("user", str(error))
    except (OSError, RuntimeError) as error:
        failed = ("disk", " ".join(str(error).split())[:200])
    reports = everyone((made, failed))
    for number, (_, why) in enumerate(reports):
        if why is not None:
            if why[0] == "user":
                raise UserError(why[1])
            raise Unwritten(f"the checkpoint {str(final)!r} could not be written by process {number} ({why[1]}): make room; those before it are as they were")
    return [made for made, _ in reports]


def _own(checkpoint: Any) -> tuple[dict[str, Tensor], set[str]]:
    """What this process writes, by key: its rows of sharded tensors, whose keys are given, too; and all else on the first process."""
    mine: dict[str, Tensor] = {}
    shared: set[str] = set()
    first = rank() == 0

    def visit(value: Any, keys: Keys) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                visit(each, (*keys, key))
        elif isinstance(value, (list, tuple)):
            for place, each in enumerate(value):
                visit(each, (*keys, place))
        elif isinstance(value, Tensor):
            key = _key(keys)
            if _by_rows(value):
                mine[key] = value.to_local()
                shared.add(key)
            elif isinstance(value, DTensor):
                full = value.full_tensor()  # all processes take part
                mine.update({key: full} if first else {})
            elif first:
                mine[key] = value

    visit(checkpoint, ())
    return mine, shared


def _write(path: Path, mine: dict[str, Tensor], shared: set[str], checkpoint: dict[str, Any]) -> tuple[int, str]:
    """Write this process's file, if its weights are finite and all can be written."""
    for key, tensor in mine.items():
        if key.startswith("state_dict/") and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"a checkpoint holds finite weights; {key.removeprefix('state_dict/')!r} is not: lower the learning rate or look at the data; "
                f"{str(path.parent.parent)!r} was given none, and the checkpoints before it are whole"
            )
    encoded(checkpoint, lambda keys, tensor: {"dtype": code_of(tensor, _key(keys))})  # refused before gigabytes are written
    return write_piece(path, {key: tensor for key, tensor in mine.items() if key not in shared or len(tensor)})


def _describe(keys: Keys, tensor: Tensor, first: str, rows: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Where the rows of a tensor are."""
    key, end, pieces = _key(keys), 0, []
    if _by_rows(tensor):
        for name, lengths in rows.items():
            if lengths[key]:
                pieces.append([name, end, end + lengths[key]])
            end += lengths[key]
    else:
        pieces = [[first, 0, tensor.shape[0] if tensor.ndim else 0]]
    return {"key": key, "dtype": code_of(tensor, key), "shape": list(tensor.shape), "pieces": pieces}


def _key(keys: Keys) -> str:
    return "/".join(map(str, keys))


def _by_rows(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor) and tensor.device_mesh.ndim == 1 and tuple(tensor.placements) == (Shard(0),)


def placed(model: nn.Module, optimizers: Sequence[Optimizer]) -> Callable[[Keys, Stored], Tensor]:
    """Puts the tensors of a checkpoint where a sharded model and its optimisers have them; of each only the rows of this process are read."""
    weights = model.state_dict()
    moved = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in optimizers]

    def place(keys: Keys, stored: Stored) -> Tensor:
        like = None
        if keys[0] in ("state_dict", "trained_state_dict"):
            like = weights.get(keys[1])
        elif keys[0] == "optimizer_states" and keys[2] == "state" and keys[1] < len(moved) and keys[3] < len(moved[keys[1]]):
            like = moved[keys[1]][keys[3]]
        if like is None or not _by_rows(like) or tuple(like.shape) != stored.shape:
            return stored.whole()
        made = torch.empty_like(like.detach(), dtype=stored.dtype)
        local, each = made.to_local(), -(-stored.shape[0] // like.device_mesh.size())  # rows are dealt out as torch.chunk does
        start = min(stored.shape[0], each * like.device_mesh.get_local_rank())
        local.copy_(stored.rows(start, start + len(local)))
        return made

    return place


def replaced(tree: Any, place: Callable[[Keys, Stored], Tensor], keys: Keys = ()) -> Any:
    """A checkpoint that came from a single file, with its tensors put where `place` puts them."""
    if isinstance(tree, Tensor):
        return place(keys, Stored(tuple(tree.shape), tree.dtype, [(tree, 0, len(tree) if tree.ndim else 0)]))
    if isinstance(tree, dict):
        return {key: replaced(each, place, (*keys, key)) for key, each in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(replaced(each, place, (*keys, number)) for number, each in enumerate(tree))
    return tree
