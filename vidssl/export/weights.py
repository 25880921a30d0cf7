"""Tensors out of files and into models, with every mismatch named; nothing is unpickled but tensors and plain values."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidssl.files import sha256_of
from vidssl.pieces import INDEX, in_pieces, read_folder
from vidssl.spec import build
from vidssl.types import UserError

SPARE = 1 << 24
"""Numbers that a model may have beyond its file, such as tables of positions."""


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
    if written.is_file() and written.read_text("utf-8", "replace").split()[:1] != [found]:
        raise UserError(f"the checkpoint {str(path)!r} is not what was written (its sha256 differs): use another one")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):  # a few bytes may unfold to terabytes
                raise ValueError("it is compressed, and torch compresses nothing")
            damaged = archive.testzip()  # torch itself compares no checksums when it reads
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, NotImplementedError, EOFError, ValueError, OSError, RuntimeError, OverflowError) as error:
        raise UserError(f"{str(path)!r} is no checkpoint, or only part of one ({error}): use another one") from error
    if damaged is not None:
        raise UserError(f"the checkpoint {str(path)!r} is damaged at {damaged!r}: use another one")
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


def make(spec: Any, tensors: Mapping[str, Any], source: str) -> Any:
    """The model that `spec` describes, with `tensors` in it. It is laid out without memory first, and memory is taken only when all names and shapes fit the file.

    Raises:
        UserError: see :func:`vidssl.spec.build` and :func:`fill`; or the model is far larger than its file.
    """
    with torch.device("meta"):
        plan = build(spec)
    if not isinstance(plan, nn.Module):
        return plan
    compare(plan, tensors, source)
    room = sum(value.numel() for value in tensors.values() if isinstance(value, Tensor))
    needed = sum(value.numel() for value in (*plan.parameters(), *plan.buffers()))
    if needed > 2 * room + SPARE:
        raise UserError(f"a model is about as large as its weights; that of {source} has {needed:,} numbers and its file {room:,}: use another file")
    made = build(spec)
    fill(made, tensors, source)
    return made


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
        if not isinstance(given, Tensor) or given.shape != value.shape:
            shape = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise UserError(f"{name!r} has shape {list(value.shape)} in the model and {shape} in the file: {remedy}")


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
