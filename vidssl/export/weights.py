"""Tensors out of files and into models, with every mismatch named; nothing is unpickled but tensors and plain values."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidssl.files import sha256_of
from vidssl.types import UserError


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
    """A training checkpoint and its sha256; there is no way from here to unsafe loading.

    Raises:
        UserError: no checkpoint, truncated, altered, holding more than tensors and plain values, or not of vidssl.
    """
    found = sha256_of(path)
    written = path.with_name(path.name + ".sha256")
    if written.is_file() and written.read_text("utf-8", "replace").split()[:1] != [found]:
        raise UserError(f"the checkpoint {str(path)!r} is not what was written (its sha256 differs): use another one")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself compares no checksums when it reads
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError) as error:
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


def fill(module: nn.Module, tensors: Mapping[str, Any], source: str) -> None:
    """Put `tensors` into `module`: exactly its names, exactly its shapes, all numbers finite.

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
        if not torch.isfinite(given).all():
            raise UserError(f"{name!r} of {source} holds numbers that are not finite: the run diverged; use an earlier checkpoint")
    module.load_state_dict(dict(tensors))
