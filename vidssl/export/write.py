"""Writes an encoder or a whole model as a folder that appears at once, whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.energy.base import Energy
from vidssl.export.card import NAME, WEIGHTS, Opened, card_of, form_of, frames_of, read_card
from vidssl.export.formats import FORMATS
from vidssl.files import sync, write_bytes, write_json, write_text
from vidssl.nets.encoders import Encoder
from vidssl.spec import Part
from vidssl.types import UserError


def export(model: Opened, folder: str | Path, what: str = "encoder", form: str = "safetensors") -> dict[str, Any]:
    """Write `model`, or its encoder, with its card into `folder`, in one of :data:`~vidssl.export.formats.FORMATS`, and return the card.

    An earlier export in `folder` is replaced; anything else that is there is left alone and refused.

    Raises:
        UserError: `folder` holds something else, `what` or `form` is unknown, the format needs a package that is missing, or the weights are not finite.
        OSError: no room, no permission; what was at `folder` is as it was.
    """
    folder = Path(folder).expanduser().resolve()
    refuse_foreign(folder)
    part = _part(model.energy, what)
    if form not in FORMATS:
        raise UserError(f"one exports as {', '.join(FORMATS)}; got {form!r}")
    if what not in FORMATS[form].files:
        raise UserError(f"a whole model leaves as {' or '.join(n for n, f in FORMATS.items() if what in f.files)}; got {form!r}: export its encoder")
    for name, value in part.state_dict().items():
        if not torch.isfinite(value).all():
            raise UserError(f"weights to export are finite; {name!r} is not: the run diverged; use an earlier checkpoint")
    data, about = FORMATS[form].encode(part, _clip(model.energy, part))
    card = card_of(model, what, part, form, hashlib.sha256(data).hexdigest(), about)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    try:
        draft.mkdir()
        write_bytes(draft / FORMATS[form].files[what], data)
        for name, text in FORMATS[form].texts(card).items():
            write_text(draft / name, text)
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
        card = read_card(folder)
        form = form_of(card)
        if foreign := sorted(found - {NAME, form.files[card["what"]], *form.beside}):
            raise UserError(f"it holds {foreign[0]!r}")
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


def _clip(energy: Energy, part: Part) -> Tensor:
    """Three clips of noise that `part` takes, to trace and to compare with."""
    return torch.rand(3, frames_of(energy, part), energy.channels, energy.size, energy.size, generator=torch.Generator().manual_seed(0))


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
