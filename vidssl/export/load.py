"""Opens a model for use: a checkpoint, an exported folder, or a shipped model by name. No Lightning, no code from the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vidssl.energy.base import Energy
from vidssl.export.card import NAME, WEIGHTS, Opened, form_of, read_card
from vidssl.export.formats import FORMATS
from vidssl.export.room import bounded
from vidssl.export.weights import make, read_checkpoint, read_safetensors
from vidssl.house import PACKAGE
from vidssl.nets.encoders import Encoder
from vidssl.pieces import in_pieces
from vidssl.spec import part_of
from vidssl.types import UserError, to_unit

FORMAT = 1  # of a checkpoint's "vidssl" record
PREFIX = "energy."  # of the model's tensors among a training task's
Placed = TypeVar("Placed", bound=nn.Module)


class FrozenEncoder(nn.Module):
    """An encoder that left the house, with its card.

    Attributes:
        encoder: the network.
        card: the JSON card: what it takes (``card["input"]``), what it gives (``card["output"]``), how it was trained.
    """

    def __init__(self, encoder: Encoder, card: dict[str, Any]) -> None:
        super().__init__()
        self.encoder, self.card = encoder, card

    def encode(self, x: Tensor) -> Tensor:
        """Features of clips ``[B, T, C, H, W]``, uint8 or float in [0, 1], as ``[B, D, h, w]``."""
        return self.encoder(to_unit(x))

    def forward(self, x: Tensor) -> Tensor:
        """The same as :meth:`encode`."""
        return self.encode(x)


def shipped() -> dict[str, Path]:
    """Names and folders of the models that come with the package."""
    return {path.parent.name: path.parent for path in sorted((PACKAGE / "models").glob(f"*/{NAME}"))}


def load_energy(model: str | Path, device: str = "cpu") -> Energy:
    """The model called `model`, in eval mode on `device`: see :func:`open_model`.

    Raises:
        UserError: one line that says what is wrong with the file and what to do.
    """
    return open_model(model, device).energy


def open_model(model: str | Path, device: str = "cpu") -> Opened:
    """A checkpoint (.ckpt), an exported folder or a shipped model's name, with its origin.

    Raises:
        UserError: there is no such model, or it is not whole, not of vidssl, or an encoder only.
    """
    path = _find(model)
    opened = _open_folder(path) if path.is_dir() and not in_pieces(path) else _open_checkpoint(path)
    opened.energy = _place(opened.energy, device)
    return opened


def load_encoder(model: str | Path, device: str = "cpu") -> FrozenEncoder:
    """An exported encoder, in eval mode on `device`, with its card.

    Raises:
        UserError: not an exported encoder, not whole, or in a format that is for other programs.
    """
    path = _find(model)
    if not path.is_dir() or (card := read_card(path))["what"] != "encoder":
        raise UserError(
            f"an encoder is a folder that `vidssl export` wrote; {str(model)!r} is a whole model: export its encoder, "
            f"or use vidssl.load(...).encode"
        )
    form = form_of(card)
    if not form.ours:
        formats = " or ".join(name for name, other in FORMATS.items() if other.ours)
        raise UserError(f"an encoder opens here as {formats}; {str(model)!r} is {form.name}: open it with {form.opening(path, 'encoder')}, or export again")
    tensors = read_safetensors(path / form.files["encoder"], card["weights"]["sha256"])
    encoder = _made(card["model"], tensors, str(model), Encoder, "the card of {source!r} describes a {found}, no encoder: export it again")
    # the layout of a whole model, so that an exported encoder gives the same bits and is as fast
    return _place(FrozenEncoder(encoder.to(memory_format=torch.channels_last), card), device)


def _find(model: str | Path) -> Path:
    path = Path(model)
    if path.is_file():
        return path.parent if path.name == NAME or path.name in {name for form in FORMATS.values() for name in form.files.values()} else path
    if path.is_dir():
        if not (path / NAME).is_file() and (found := sorted(path.rglob("*.ckpt"))):
            raise UserError(f"{str(path)!r} is a run and not an export: give one of its checkpoints, such as {str(found[-1])!r}")
        return path
    known = shipped()
    if str(model) in known:
        return known[str(model)]
    names = ", ".join(known) or "none in this version"
    raise UserError(f"a model is a checkpoint, an exported folder or a shipped model ({names}); there is no {str(model)!r}")


def _open_folder(path: Path) -> Opened:
    card = read_card(path)
    if card["what"] != "model":
        raise UserError(
            f"{str(path)!r} holds an encoder only, which has no futures: open it with vidssl.export.load.load_encoder, "
            f"or export the whole model with --what model"
        )
    energy = _energy(card["model"], read_safetensors(path / WEIGHTS["model"], card["weights"]["sha256"]), str(path))
    return Opened(energy, card["data"], card["training"], card["weights"]["sha256"])


def _open_checkpoint(path: Path) -> Opened:
    checkpoint, sha256 = read_checkpoint(path)
    record = checkpoint["vidssl"]
    if record.get("format") != FORMAT:
        raise UserError(
            f"this vidssl opens checkpoints of format {FORMAT}; {str(path)!r} has {record.get('format')!r}: "
            f"use the vidssl that wrote it"
        )
    tensors, data, training = checkpoint.get("state_dict"), record.get("data"), record.get("record")
    if not all(isinstance(part, dict) for part in (tensors, data, training)):
        raise UserError(f"{str(path)!r} has no state_dict, or its record has no data and record: use another checkpoint")
    if not bounded([data, training]):
        raise UserError(f"the record in {str(path)!r} is not plain JSON (it unfolds to more than it may be): use another checkpoint")
    try:
        data, training = json.loads(json.dumps([data, training], allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"the record in {str(path)!r} is not plain JSON ({error}): use another checkpoint") from error
    energy = _energy(record.get("energy"), {k[len(PREFIX) :]: v for k, v in tensors.items() if str(k).startswith(PREFIX)}, str(path))
    return Opened(energy, data, training, sha256)


def _energy(spec: Any, tensors: dict[str, Any], source: str) -> Energy:
    return _made(spec, tensors, source, Energy, "a model is an energy; {source!r} describes a {found}")


def _made(spec: Any, tensors: dict[str, Any], source: str, kind: type[Placed], refused: str) -> Placed:
    """A part of `kind` with its tensors; of another class nothing is made."""
    found = part_of(spec["class_path"]) if isinstance(spec, dict) and isinstance(spec.get("class_path"), str) else type(spec)
    if not issubclass(found, kind):
        raise UserError(refused.format(source=source, found=found.__name__))
    return make(spec, tensors, repr(source))


def _place(module: Placed, device: str) -> Placed:
    try:
        return module.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch says it in either way, depending on how it was built
        raise UserError(f"a device is cpu, or cuda where there is one; {device!r} cannot be used: {error}") from error
