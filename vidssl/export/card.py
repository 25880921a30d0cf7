"""The card of an exported folder: all that somebody else needs to use the weights beside it.

``card.json`` says how the model is built (class paths of this package and their arguments), what it
takes (frames, channels, size, pixel range, frame rate, resize kernel), what it gives, how it was
trained on which data, and the sha256 of the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidssl import __version__
from vidssl.energy.base import Energy
from vidssl.export.formats import FORMATS
from vidssl.export.formats.base import Format
from vidssl.nets.encoders import Encoder
from vidssl.spec import Part, spec_of
from vidssl.types import UserError

FORMAT = 1
NAME = "card.json"
LONGEST = 1 << 24
"""Characters of a card."""
WEIGHTS = FORMATS["safetensors"].files
LICENCE = (
    "vidssl is under Apache-2.0. The licence of these weights is for whoever trained them to state; "
    "the licence of the training data may limit it."
)


@dataclass
class Opened:
    """A model ready for use and where it comes from.

    Attributes:
        energy: the model, in eval mode on its device.
        data: the data's protocol: which clips, at what rate, resized how.
        record: the training: steps, seed, versions.
        sha256: of the file that its weights were read from.
    """

    energy: Energy
    data: dict[str, Any]
    record: dict[str, Any]
    sha256: str


def card_of(model: Opened, what: str, part: Part, form: str, sha256: str, about: dict[str, Any]) -> dict[str, Any]:
    """The card of `part` (the encoder of `model`, or all of it) in the format `form`, whose weights have `sha256`; `about` is what the format says of them.

    The shape of the features is measured with a black clip, not derived.
    """
    energy = model.energy
    frames = frames_of(energy, part)
    with torch.inference_mode():
        like = next(part.parameters())
        black = torch.zeros(1, frames, energy.channels, energy.size, energy.size, device=like.device)
        shape = list((part(black) if isinstance(part, Encoder) else energy.encode(black)).shape[1:])
    return {
        "format": FORMAT,
        "what": what,
        "vidssl": __version__,
        "model": spec_of(part),
        "input": {
            "axes": "B T C H W",
            "frames": frames,
            "channels": energy.channels,
            "size": energy.size,
            "pixels": "float32 in [0, 1]: uint8 / 255, no mean or deviation",
            "stride": model.data.get("stride", 1),
            "fps": model.data.get("fps"),
            "resize": model.data.get("resize"),
        },
        "output": {"axes": "B D H W", "features": shape, "future_frames": energy.future if what == "model" else None},
        "weights": {
            "format": form,
            "file": FORMATS[form].files[what],
            "sha256": sha256,
            "tensors": len(part.state_dict()),
            "parameters": sum(p.numel() for p in part.parameters()),
            **about,
        },
        "training": model.record,
        "data": model.data,
        "licence": LICENCE,
    }


def frames_of(energy: Energy, part: Part) -> int:
    """Frames that `part` of `energy` takes: an encoder may see less than the whole past."""
    return part.frames if isinstance(part, Encoder) else energy.past


def form_of(card: dict[str, Any]) -> Format:
    """The format of a card's weights; cards of old know one."""
    return FORMATS[card["weights"].get("format", "safetensors")]


def read_card(folder: Path) -> dict[str, Any]:
    """The card of an exported folder, checked.

    Raises:
        UserError: none, no JSON, of a format that this version does not read, or with fields missing.
    """
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"an exported folder has a {NAME}; {str(folder)!r} has none: export the model again")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise ValueError(f"it has more than {LONGEST:,} characters")
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not whole JSON ({error}): copy or export it again") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise UserError(f"this vidssl reads cards of format {FORMAT}; {str(path)!r} has {found!r}: use the vidssl that wrote it")
    what, weights = card.get("what"), card.get("weights")
    whole = isinstance(what, str) and what in WEIGHTS and isinstance(weights, dict)
    form = weights.get("format", "safetensors") if whole else None  # earlier cards know no other
    # the file's name is compared, not followed: a card cannot point outside its folder
    whole = whole and isinstance(form, str) and form in FORMATS and weights.get("file") == FORMATS[form].files.get(what)
    whole = whole and isinstance(weights.get("sha256"), str) and isinstance(card.get("model"), dict)
    if not whole or not all(isinstance(card.get(k), dict) for k in ("input", "output", "training", "data")):
        raise UserError(f"{str(path)!r} is not a card as vidssl writes it (what, weights, model, input, ...): export it again")
    return card
