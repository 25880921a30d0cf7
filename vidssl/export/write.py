"""Writes an encoder or a whole model as a folder that appears at once, whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from vidssl.energy.base import Energy
from vidssl.export.card import NAME, WEIGHTS, Opened, card_of, read_card
from vidssl.files import sync, write_bytes, write_json
from vidssl.nets.encoders import Encoder
from vidssl.spec import Part
from vidssl.types import UserError

OURS = {NAME, *WEIGHTS.values()}


def export(model: Opened, folder: str | Path, what: str = "encoder") -> dict[str, Any]:
    """Write `model`, or its encoder, with its card into `folder`, and return the card.

    An earlier export in `folder` is replaced; anything else that is there is left alone and refused.

    Raises:
        UserError: `folder` holds something else, `what` is unknown, or the weights are not finite.
        OSError: no room, no permission; what was at `folder` is as it was.
    """
    folder = Path(folder).expanduser().resolve()
    refuse_foreign(folder)
    part = _part(model.energy, what)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in part.state_dict().items()}
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise UserError(f"weights to export are finite; {name!r} is not: the run diverged; use an earlier checkpoint")
    data = save(tensors)
    card = card_of(model, what, part, hashlib.sha256(data).hexdigest())
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    try:
        draft.mkdir()
        write_bytes(draft / WEIGHTS[what], data)
        write_json(draft / NAME, card)
        _swap(draft, folder)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = str(folder)  # the draft is none of the user's business
        raise
    sync(folder.parent)
    return card


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier export.

    Raises:
        UserError: what is there, by name.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"an export is a folder; {str(folder)!r} is a file: choose another --output")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    try:
        if foreign := sorted(found - OURS):
            raise UserError(f"it holds {foreign[0]!r}")
        read_card(folder)
    except UserError as error:
        raise UserError(f"an export replaces nothing but an export; {str(folder)!r} is none: {error}; choose another --output") from error


def _part(energy: Energy, what: str) -> Part:
    if what not in WEIGHTS:
        raise UserError(f"one exports {' or '.join(WEIGHTS)}; got {what!r}")
    if what == "model":
        return energy
    encoder = energy.encoder
    assert isinstance(encoder, Encoder)
    return encoder


def _swap(draft: Path, folder: Path) -> None:
    """Put `draft` in the place of `folder`; should that fail, put the old one back."""
    if not folder.exists():
        os.rename(draft, folder)
        return
    old = draft.with_name(draft.name + "-old")
    os.rename(folder, old)
    try:
        os.rename(draft, folder)
    except BaseException:
        os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
