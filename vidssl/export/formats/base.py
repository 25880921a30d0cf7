"""The contract of a format: one file of weights, what the card says of it, and small files beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.spec import Part
from vidssl.types import UserError

TOLERANCE = 1e-4
"""Largest difference between a translation's features and the network's own, as a share of the largest feature."""


class Format(ABC):
    """A way in which weights leave.

    Attributes:
        name: as the command knows it. told: what it is for, in a few words.
        files: names of the weights, by what is exported; a format of encoders has no other.
        beside: names of the files next to them, the card aside, and what they hold.
        ours: whether :func:`vidssl.export.load.load_encoder` opens the folder.
        how: Python that opens it, with {folder} and {file} for their paths, by what is exported.
    """

    name: str
    told: str
    files: dict[str, str]
    beside: dict[str, str] = {}
    ours: bool = False
    how: dict[str, str]

    @abstractmethod
    def encode(self, part: Part, clip: Tensor) -> tuple[bytes, dict[str, Any]]:
        """The file's bytes for `part`, and what the card should say of them; ``clip [3, T, C, H, W]`` is a clip that it takes.

        Raises:
            UserError: a package that is missing, or a network that this format cannot hold.
        """

    def opening(self, folder: str | Path, what: str) -> str:
        """Python that opens an export in `folder`."""
        return self.how[what].format(folder=repr(str(folder)), file=repr(str(Path(folder) / self.files[what])))

    def texts(self, card: dict[str, Any]) -> dict[str, str]:
        """The files of `beside`."""
        return {}


def frozen(part: Part) -> Part:
    """A copy on the CPU that does not learn; nothing that is done to it is seen by `part`."""
    return deepcopy(part).to("cpu", memory_format=torch.contiguous_format).eval().requires_grad_(False)


@contextmanager
def translating(part: Part, what: str) -> Iterator[None]:
    """Turn whatever stops a translation of `part` into one line.

    Raises:
        UserError: in place of any error.
    """
    try:
        yield
    except Exception as error:  # a network that cannot be traced may fail in any way
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{type(part).__name__} cannot be written as {what} ({type(error).__name__}: {reason}): export another format") from error


def compare(network: nn.Module, clip: Tensor, found: list[Tensor], what: str) -> float:
    """The largest difference between `found`, features of one clip and of all, and the network's own.

    Raises:
        UserError: it is above :data:`TOLERANCE`.
    """
    with torch.inference_mode():
        told = [network(clip[:1]), network(clip)]
    worst = float(torch.stack([(a - b).abs().max() for a, b in zip(found, told, strict=True)]).max())  # of tensors: theirs keeps a nan
    most = TOLERANCE * max(float(b.abs().max()) for b in told)
    if not worst <= most:
        raise UserError(f"features of {what} differ from the model's own by at most {most:.1g}; they do by {worst:.1g}: export another format")
    return worst
