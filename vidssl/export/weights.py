"""Tensors out of files and into models, with every mismatch named; nothing is unpickled but tensors and plain values."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidssl.export.room import Room, bounded, numbers, ordinary
from vidssl.files import sha256_of, zip_harm
from vidssl.pieces import INDEX, in_pieces, read_folder
from vidssl.spec import build
from vidssl.types import UserError

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""What one another's weights may be: half precision was trained in half precision."""


def read_safetensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file whose sha256 is known.

    Raises:
        UserError: missing, truncated, or not the bytes that were exported.
    """
    if not path.is_file():
        raise UserError(f"the weights {path.name!r} are missing in {str(path.parent)!r}: copy the whole folder, or export again")
    found = sha256_of(path)
    if found != sha256:
        raise UserError(
            f"the weights {str(path)!r} are not those of the card (sha256 {found[:12]}, the card says {sha256[:12]}): "
            f"truncated or altered; copy the folder or export again"
        )
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{str(path)!r} is no whole safetensors file ({error}): export it again") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Any], str]:
    """A training checkpoint and its sha256, of one in pieces its weights alone and its index's; there is no way from here to unsafe loading.

    Raises:
        UserError: no checkpoint, truncated, altered, holding more than tensors and plain values, or not of vidssl.
    """
    if in_pieces(path):
        return read_folder(path, lambda keys, stored: stored.whole() if keys[0] == "state_dict" else None), sha256_of(path / INDEX)
    found = sha256_of(path)
    written = path.with_name(path.name + ".sha256")
    if written.is_file() and _first_word(written) != found:
        raise UserError(f"the checkpoint {str(path)!r} is not what was written (its sha256 differs): use another one")
    if harm := zip_harm(path):
        raise UserError(f"{str(path)!r} is no checkpoint, or only part of one ({harm}): use another one")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"a checkpoint holds tensors and plain values only; {str(path)!r} holds other objects, which could run code, "
            f"so it is not opened: export it with the program that wrote it"
        ) from error
    except Exception as error:  # a file that is no checkpoint may fail in any way
        raise UserError(f"{str(path)!r} is no checkpoint ({type(error).__name__}): use another one") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("vidssl"), dict):
        raise UserError(f"{str(path)!r} is a checkpoint, but not one that vidssl wrote: it has no 'vidssl' record")
    return checkpoint, found


def _first_word(path: Path) -> str:
    """Of a small file, or of the beginning of one that should be small."""
    with open(path, "rb") as file:
        return (file.read(200).decode("utf-8", "replace").split() or [""])[0]


def make(spec: Any, tensors: Mapping[str, Any], source: str) -> Any:
    """The model that `spec` describes, with `tensors` in it. While it is built, nothing is made that is far larger than they are.

    Raises:
        UserError: see :func:`vidssl.spec.build`, :class:`~vidssl.export.room.Room` and :func:`fill`; or `spec` names a file.
    """
    if not bounded(spec):
        raise UserError(f"a model is described in a few thousand values; {source} has many more: use another file")
    if named := _weights(spec):
        raise UserError(f"a model has its weights beside it; {source} names the file {named[:80]!r}, which is not opened: export it again")
    with Room(numbers(tensors.values()), len(tensors), source):
        made = build(spec)
    if isinstance(made, nn.Module):
        fill(made, tensors, source)
    return made


def _weights(spec: Any) -> str:
    """The file that a part of `spec` would read, '' for none: it is no stranger's business which files of this machine can be read."""
    stack = [spec]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            arguments = node.get("init_args")
            if isinstance(arguments, dict) and arguments.get("weights") is not None:
                return str(arguments["weights"])
        stack += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return ""


def compare(module: nn.Module, tensors: Mapping[str, Any], source: str) -> None:
    """Refuse `tensors` unless they have exactly the names and shapes of `module`.

    Raises:
        UserError: the first thing that does not fit, by name.
    """
    wanted = module.state_dict()
    remedy = f"{source} does not belong to this model or this version of vidssl; export or train it again"
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise UserError(f"{len(missing)} of {len(wanted)} tensors are missing, first {missing[0]!r}: {remedy}")
    if extra := sorted(map(str, tensors.keys() - wanted.keys())):
        raise UserError(f"{len(extra)} tensors are too many, first {extra[0]!r}: {remedy}")
    for name, value in wanted.items():
        given = tensors[name]
        if not isinstance(given, Tensor) or given.is_nested or given.shape != value.shape:
            shape = list(given.shape) if isinstance(given, Tensor) and not given.is_nested else type(given).__name__
            raise UserError(f"{name!r} has shape {list(value.shape)} in the model and {shape} in the file: {remedy}")
        kinds = (given.dtype, value.dtype)
        if not ordinary(given) or kinds[0] != kinds[1] and not all(kind in FLOATS for kind in kinds):
            raise UserError(f"{name!r} is {value.dtype} in the model and something else in the file ({given.dtype}, {given.layout}): {remedy}")


def fill(module: nn.Module, tensors: Mapping[str, Any], source: str) -> None:
    """Put `tensors` into `module`: exactly its names, exactly its shapes, all numbers finite.

    Raises:
        UserError: the first thing that does not fit, by name.
    """
    compare(module, tensors, source)
    for name, given in tensors.items():
        if not torch.isfinite(given).all():
            raise UserError(f"{name!r} of {source} holds numbers that are not finite: the run diverged; use an earlier checkpoint")
    module.load_state_dict(dict(tensors))
