"""Noisy TV: fork beside a screen of noise, so that most of what will happen is not worth knowing.

Every frame, past and future, shows fair coin flips of `patch` x `patch` pixels that nothing foretells (the noisy television of
Burda et al. 2019, "Large-Scale Study of Curiosity-Driven Learning"). A z that tells the future whole pays ``patch^2`` bits a frame for
them; one that tells what matters pays fork's 1.75.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vidssl.data.worlds.base import Episode
from vidssl.data.worlds.fork import Fork
from vidssl.types import UserError

FEWEST_BITS = 16
"""A future with less noise than this could be listed, and its truth would have to be."""
SEEDS = 1 << 56
"""Noises are drawn from seeds below this number: all patterns are equally likely where they are fewer, else these stand for them."""
SCREEN = 1 << 63
"""Second key word of the noise, so that its streams are not those of episodes."""


class NoisyTV(Fork):
    """Fork in the upper left square of ``size - patch`` pixels, and the screen in the lower right corner; the rest is black.

    Fork's objects never reach the screen. Without the noise an episode is that of ``Fork(size - patch, ...)`` with the same seed
    and index, in a larger frame. The state is fork's: past noise tells nothing.

    A mode is k + K * s: fork's direction k of each object, and for the first object the seed s of the future's noise, below
    `SEEDS`; the others have s = 0. `modes` and `probabilities` are about directions alone (s = 0), and so is `mode_of`;
    `counts`, `draw`, `surprise_bits` and `entropy_bits` are about whole futures.

    Args:
        size: height and width of a frame, screen and all.
        patch: side of the screen in pixels.
        amplitude: brightness of a noise pixel that is on, in (0, 1]; one that is off is black.
        past, future, channels, probabilities, objects, side, speed, turn: see :class:`Fork`. Noise is grey.

    Attributes:
        noise_bits: of a future's noise, ``patch^2 * future``.

    Raises:
        UserError: a patch that leaves no frame or an amplitude out of range, noise of fewer than `FEWEST_BITS` bits, and what
            :class:`Fork` refuses of the square that is left.
    """

    def __init__(
        self,
        size: int = 40,
        past: int = 4,
        future: int = 6,
        channels: int = 1,
        probabilities: tuple[float, ...] = (0.5, 0.25, 0.125, 0.125),
        objects: int = 1,
        side: int = 4,
        speed: int = 2,
        turn: int = 0,
        patch: int = 8,
        amplitude: float = 1.0,
    ) -> None:
        if not 1 <= patch < size:
            raise UserError(f"the patch of noise is 1 pixel or more and smaller than the frame; got {patch=} and {size=}: without noise take Fork")
        if not 1 / 255 <= amplitude <= 1:
            raise UserError(f"the amplitude of noise is from 1/255, one grey level, to 1; got {amplitude}: without noise take Fork")
        super().__init__(size - patch, past, future, channels, probabilities, objects, side, speed, turn)
        self.size, self.patch = size, patch  # cells and ways are those of the smaller square; frames are painted at this size
        self.noise_bits = patch**2 * future
        if self.noise_bits < FEWEST_BITS:
            raise UserError(f"noise has {FEWEST_BITS} bits a future or more; got {patch}^2 * {future} = {self.noise_bits}: take a larger patch")
        self._level = round(255 * amplitude)

    @property
    def noise_variance(self) -> float:
        """Of a noise pixel, over its channels together: channels * amplitude^2 / 4, an eigenvalue of Cov(y | x) for each of them.

        At a price below twice this, telling a noise pixel pays: with one channel that is amplitude > sqrt(2 * price).
        (See :func:`.rates.critical_price`; a coin flip is worth telling up to the same price as a Gaussian of its variance.)
        """
        return self.channels * (self._level / 255) ** 2 / 4

    def episode(self, seed: int, index: int) -> Episode:
        """Episode `index` of the world with `seed`; pure."""
        calm = super().episode(seed, index)
        rng = np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, 0, 1]))  # fork's stream starts at 0
        x, y = calm.x.clone(), calm.y.clone()
        self._screen(x)[:] = self._snow(rng, self.past)
        fate = int(rng.integers(SEEDS))
        self._screen(y)[:] = self._noise(fate)
        mode = calm.mode.clone()
        mode[0] += len(self.p) * fate
        return Episode(x, y, calm.state, mode)

    def _screen(self, video: Tensor) -> Tensor:
        """The part of ``video [..., H, W]`` that the screen fills."""
        return video[..., -self.patch :, -self.patch :]

    def _snow(self, rng: np.random.Generator, frames: int) -> Tensor:
        bits = rng.integers(0, 2, (frames, 1, self.patch, self.patch), np.uint8)
        return torch.from_numpy(bits * np.uint8(self._level))

    def _noise(self, fate: int) -> Tensor:
        """The future's noise of one seed, ``[Ty, 1, patch, patch]`` uint8."""
        return self._snow(np.random.Generator(np.random.Philox(key=[fate, SCREEN])), self.future)

    def classes_of(self, modes: Tensor) -> Tensor:
        """The directions in ``modes [M, F]``, without the noise: ``[M, F]`` in 0 .. K - 1; -1 stays -1."""
        return torch.where(modes < 0, -1, modes % len(self.p))

    def counts(self, state: Tensor) -> list[float]:
        """Whole futures: K for each object, and 2^noise_bits times as many for the first; at most 2^1000 times."""
        count = float(len(self.p))
        return [count * 2.0 ** min(self.noise_bits, 1000), *[count] * (self.factors - 1)]

    def surprise_bits(self, state: Tensor, modes: Tensor) -> Tensor:
        """-log2 p(mode | past), ``[M, F]`` float64: fork's, and for the first object the bits of the noise; infinite for no mode."""
        fate = modes.div(len(self.p), rounding_mode="floor")
        most = torch.tensor([SEEDS, *[1] * (self.factors - 1)])
        bits = super().surprise_bits(state, torch.where(fate < most, self.classes_of(modes), -1))
        bits[:, 0] += self.noise_bits
        return bits

    def relevant_bits(self, state: Tensor) -> float:
        """Fork's part of the entropy: what is worth telling of the future."""
        return super().entropy_bits(state)

    def entropy_bits(self, state: Tensor) -> float:
        """H(y | x) in bits: fork's and the noise's."""
        return self.relevant_bits(state) + self.noise_bits

    def draw(self, state: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """`n` draws of whole futures, ``[n, F]``."""
        modes = super().draw(state, n, generator)
        modes[:, 0] += len(self.p) * torch.randint(SEEDS, (n,), generator=generator)
        return modes

    def render(self, state: Tensor, modes: Tensor) -> Tensor:
        """``modes [M, F] -> [M, Ty, C, H, W]`` uint8."""
        video = super().render(state, self.classes_of(modes))
        fates = modes[:, 0].div(len(self.p), rounding_mode="floor")
        self._screen(video)[:] = torch.stack([self._noise(fate) for fate in fates.tolist()])
        return video

    def mode_of(self, state: Tensor, y: Tensor) -> Tensor:
        """Each object's direction, ``[M, F]`` in 0 .. K - 1, or -1, as in fork; whatever the screen shows."""
        dark = y.clone()
        self._screen(dark)[:] = 0
        return super().mode_of(state, dark)

    def wrong(self, state: Tensor, kind: str, generator: torch.Generator) -> Tensor:
        """Fork's wrong futures, with noise that is as it should be."""
        video = super().wrong(state, kind, generator)
        self._screen(video)[:] = self._noise(int(torch.randint(SEEDS, (), generator=generator)))
        return video
