"""The contract of a world: video whose futures, and their probabilities, are known exactly.

An episode is a pure function of (seed, index). Its future is made of independent *factors*, one
per object; each factor takes one of finitely many *modes* (a direction, a trajectory), which have numbers. So the
truth about a past is a list of probability vectors, one a factor, and a future is one number per factor.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TEST_SEED = 1 << 31
"""Worlds draw test material (digits that training never shows) for seeds from here on."""


@dataclass
class Episode:
    """One clip with its truth.

    Attributes:
        x: past, ``[Tx, C, H, W]`` uint8.
        y: the future that happened, ``[Ty, C, H, W]`` uint8.
        state: float32 vector: all that the other methods need to know about the past.
        mode: ``[F]`` int64, the mode that each factor took.
    """

    x: Tensor
    y: Tensor
    state: Tensor
    mode: Tensor


class World(ABC):
    """A source of episodes with exact futures.

    Attributes:
        past, future: frames of x and y.
        size, channels: of a frame.
        factors: F, independent objects whose futures are drawn separately.
        wrong_kinds: names of this world's own impossible futures, for :meth:`wrong`.
        differential: futures are a continuum, so that `surprise_bits` and `entropy_bits` are of densities and no lengths of codes.
        classes: names of the labels that a past has, and how many classes each has; known before there is any past. None unless a world says otherwise.
        quantities: names of the numbers that :meth:`truth` gives.
        arguments: what the world was constructed with; it builds the same world again.
    """

    arguments: dict[str, Any]

    past: int
    future: int
    size: int
    channels: int
    factors: int
    wrong_kinds: tuple[str, ...]
    differential = False
    classes: dict[str, int] = {}
    quantities: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        make = cls.__init__

        @functools.wraps(make)
        def remember(self: World, *args: Any, **kwargs: Any) -> None:
            if "arguments" not in self.__dict__:  # the outermost constructor speaks for the object
                bound = inspect.signature(make).bind(self, *args, **kwargs)
                bound.apply_defaults()
                self.arguments = dict(list(bound.arguments.items())[1:])
            make(self, *args, **kwargs)

        if "__init__" in cls.__dict__:
            cls.__init__ = remember  # type: ignore[method-assign]

    @abstractmethod
    def episode(self, seed: int, index: int) -> Episode:
        """Episode `index` of the world with `seed`; pure."""

    @abstractmethod
    def probabilities(self, state: Tensor) -> list[Tensor]:
        """One vector per factor: p(mode | past), exact, each summing to 1 (float64); in the order of :meth:`modes`.

        Raises:
            UserError: where a world has more modes than can be listed; `draw`, `surprise_bits` and
                `entropy_bits` work there too.
        """

    @abstractmethod
    def render(self, state: Tensor, modes: Tensor) -> Tensor:
        """Futures of the past in `state`: ``modes [M, F] -> [M, Ty, C, H, W]`` uint8."""

    @abstractmethod
    def mode_of(self, state: Tensor, y: Tensor) -> Tensor:
        """Which future each of ``y [M, Ty, C, H, W]`` (float in [0, 1]) is: ``[M, F]``, -1 where it is none."""

    @abstractmethod
    def wrong(self, state: Tensor, kind: str, generator: torch.Generator) -> Tensor:
        """An impossible future of `kind` for this past, ``[Ty, C, H, W]`` uint8."""

    def labels(self, state: Tensor) -> dict[str, int]:
        """The class of this past under each of the labels of `classes`; -1 where the past does not show it."""
        return {}

    def truth(self, state: Tensor) -> Tensor:
        """The numbers of `quantities` at the end of this past, ``[Q]`` float32, in pixels and frames; NaN where the past does not show one."""
        return torch.empty(0)

    def modes(self, state: Tensor) -> list[Tensor]:
        """The modes' numbers, ascending, one int64 vector per factor; 0 .. K - 1 unless a world says otherwise."""
        return [torch.arange(len(p)) for p in self.probabilities(state)]

    def counts(self, state: Tensor) -> list[float]:
        """How many modes each factor has, exact also where they are too many to list."""
        return [float(len(p)) for p in self.probabilities(state)]

    def surprise_bits(self, state: Tensor, modes: Tensor) -> Tensor:
        """-log2 p(mode | past) of ``modes [M, F]``, ``[M, F]`` float64; infinite where there is no such mode."""
        columns = [torch.cat([p, p.new_zeros(1)])[m] for p, m in zip(self.probabilities(state), modes.unbind(1))]
        return -torch.stack(columns, 1).log2()

    def entropy_bits(self, state: Tensor) -> float:
        """H(y | x) in bits: what a perfect z says about this future."""
        return float(sum(-(p * p.clamp_min(1e-300).log2()).sum() for p in self.probabilities(state)))

    def draw(self, state: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """`n` draws of the true futures' modes, ``[n, F]``."""
        columns = [torch.multinomial(p, n, True, generator=generator) for p in self.probabilities(state)]
        return torch.stack(columns, 1)
