"""How much of z is wasted on a screen of noise: by a predictor of pixels, and by one of embeddings that learn, at equal bits.

In `noisy_tv` the object's direction is worth 1.75 bits, and the screen 64 that are worth nothing. Each kind gives a curve: the same networks around the same Gaussian
z, trained at some prices. For each training, of futures drawn from the truth: the bits paid, KL(q || p); the bits told, I(z; y | x), which are no more;
and of these I(z; direction | x), where all futures of one direction count as one, whatever their screen. What is told beyond it is about the screen. Between
neighbouring prices these numbers are taken to be linear in the one that is held equal; where a curve does not reach, a row says that there is nothing to compare.

Failure modes: of M drawn futures no more than log2 M bits can be told; and once both kinds tell the whole direction, equal bits told are equal shares by arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.data.worlds.oracle import truth
from vidssl.energy.base import LatentEnergy
from vidssl.energy.jepa import VarianceJEPA
from vidssl.energy.predictive import PixelEnergy
from vidssl.nets.encoders import ClipEncoder
from vidssl.objectives.jepa import JEPA
from vidssl.objectives.limited import LimitedLatent
from vidssl.sweep.cell import batches, make_energy, train_cell
from vidssl.sweep.trial import Report, Row, spec_of_run
from vidssl.training.budget import train_steps

WORLD = {"size": 20, "past": 3, "future": 4, "side": 3, "speed": 1, "patch": 4, "amplitude": 0.8}
PIXELS, EMBEDDINGS = (0.2, 0.05, 0.02), (2.0, 1.0, 0.5)
"""Prices, in squared error of each space, found on seed 0, where the curves share 6 to 12 bits paid. At 5 and above the z of embeddings was silent."""
EQUAL = (("paid", 7.0), ("paid", 8.0), ("paid", 10.0), ("told", 1.9), ("told", 2.0))
CLEARLY = 0.02
"""A share is smaller if it is by this: one model measured on two sets of pasts differed by up to .004."""
STEPS, BATCH = 500, 32
PASTS, FUTURES, DRAWS = 16, 256, 32


@dataclass
class Point:
    """What one training gave, in bits a future: `paid` by z, `told` by it, and of these about the `direction`."""

    paid: float
    told: float
    direction: float

    @property
    def wasted(self) -> float:
        """The share of the bits told that is about the screen."""
        return (self.told - self.direction) / self.told if self.told > 0 else math.nan


def screen(seed: int, report: Report) -> Iterator[Row]:
    """At equal bits a predictor of embeddings wastes a smaller share of z on a screen of noise than one of pixels."""
    pixels, embeddings = list[Point](), list[Point]()
    for price in PIXELS:
        report(f"pixels at price {price:g}")
        spec = _spec(seed, price)
        data, train, spent = train_cell(spec)
        assert isinstance(data.world, NoisyTV) and isinstance(spent.energy, PixelEnergy)
        pixels.append(measured(spent.energy, data.world))
        yield _trained(f"pixels at price {price:g}", pixels)
    for price in EMBEDDINGS:
        report(f"embeddings at price {price:g}")
        torch.manual_seed(seed)
        energy = embedding(make_energy(spec, data), price)
        objective = JEPA(LimitedLatent(float(energy.encoder.width * (energy.size // energy.encoder.patch) ** 2)), variance=6.0)
        learned = train_steps(STEPS, energy, objective, batches(train, BATCH, seed), spec["training"]["lr"], 0.99, seed).energy
        assert isinstance(learned, VarianceJEPA)
        embeddings.append(measured(learned, data.world))
        yield _trained(f"embeddings at price {price:g}", embeddings)
    for held, bits in EQUAL:
        yield _compared(held, bits, (pixels, embeddings))


def _spec(seed: int, price: float) -> dict[str, Any]:
    world = {"class_path": "vidssl.data.worlds.noisy_tv.NoisyTV", "init_args": WORLD}
    spec = spec_of_run("gaussian.GaussianLearned", world, seed, STEPS, price, dim=64, start=0.1)
    spec["training"]["batch"] = BATCH
    return spec


def embedding(pixels: PixelEnergy, price: float) -> VarianceJEPA:
    """The networks of a pixel model, but its decoder, around an embedding of the future that learns."""
    encoder = pixels.encoder
    assert isinstance(encoder, ClipEncoder)
    embedder = ClipEncoder(pixels.future, pixels.channels, encoder.width, len(encoder.blocks), encoder.patch)
    return VarianceJEPA(pixels.size, pixels.future, encoder, pixels.target_encoder, pixels.latent, pixels.predictor, embedder, price)


@torch.no_grad()
def measured(energy: LatentEnergy, world: NoisyTV) -> Point:
    """A mean over pasts, of `FUTURES` drawn futures of each."""
    generator, found = torch.Generator().manual_seed(0), torch.zeros(3, dtype=torch.float64)
    for i in range(PASTS):
        episode = world.episode(1, i)
        x = (episode.x.float() / 255).expand(FUTURES, -1, -1, -1, -1)
        known = truth(world, episode.state, generator, 1, FUTURES)
        paid = float(energy.explain(x, known.y, generator).code.rate_bits.mean())
        q = energy.posterior(x, known.y)
        assert q is not None
        told = split_bits(q, world.classes_of(known.modes)[:, 0], generator)
        found += torch.tensor([paid, *told], dtype=torch.float64) / PASTS
    return Point(*found.tolist())


def split_bits(q: Distribution, kinds: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """I(z; m) and I(z; k) in bits, for equally likely futures m of kinds k, from `DRAWS` draws of z of each.

    I(z; m) = E log2 q_m(z) / q(z), I(z; k) = E log2 q_k(z) / q(z), with q(z) the mean of all q_j(z) and q_k(z) that of the j of the kind of m. The same draws
    serve both, so their difference, what z tells of m beyond its kind, is E log2 q_m(z) / q_k(z).

    Args:
        q: N(m, s^2) of each future, batch ``[M]``, in any number of independent numbers. kinds: ``[M]`` integers.
    """
    mean, std = q.mean.flatten(1).double(), q.stddev.flatten(1).double()
    weight, same = std.pow(-2), (kinds[:, None] == kinds).double()
    constant = (mean.square() * weight).sum(1) + 2 * std.log().sum(1)
    every = kind = 0.0
    for noise in torch.randn(DRAWS, *mean.shape, generator=generator, dtype=mean.dtype):
        z = mean + std * noise
        log_q = -0.5 * (z.square() @ weight.T - 2 * z @ (mean * weight).T + constant)  # [M, M]: draw of q_m under q_j
        own = log_q.diagonal()
        every += float((own - log_q.logsumexp(1) + math.log(len(mean))).mean())
        kind += float((own - (log_q + same.log()).logsumexp(1) + same.sum(1).log()).mean())
    return every / DRAWS / math.log(2), (every - kind) / DRAWS / math.log(2)


def between(curve: Sequence[Point], held: str, bits: float) -> Point:
    """The curve where `held` is `bits`, on the straight line between its neighbours there; NaN beyond its ends.

    Args:
        held: "paid" or "told".
    """
    points = sorted(curve, key=lambda point: getattr(point, held))
    for low, high in zip(points, points[1:], strict=False):
        a, b = getattr(low, held), getattr(high, held)
        if a <= bits <= b and a < b:
            share = (bits - a) / (b - a)
            return Point(*((1 - share) * x + share * y for x, y in zip(astuple(low), astuple(high), strict=True)))
    return Point(math.nan, math.nan, math.nan)


def _trained(setting: str, curve: list[Point]) -> Row:
    last, before = curve[-1], curve[-2:][0]
    return {
        "setting": f"{setting}: {last.paid:.2f} bits paid, {last.told:.2f} told, {last.direction:.2f} about the direction",
        "measure": f"bits of z about the screen (of {FUTURES} futures)",
        "predicted": "no fewer than at a higher price",
        "measured": last.told - last.direction,
        "holds": last.told - last.direction >= before.told - before.direction - CLEARLY,
    }


def _compared(held: str, bits: float, curves: Sequence[Sequence[Point]]) -> Row:
    pixels, embeddings = (between(curve, held, bits).wasted for curve in curves)
    reach = [not math.isnan(share) for share in (pixels, embeddings)]
    if not all(reach):
        told = {"measure": "curves that reach there", "predicted": "2", "measured": float(sum(reach)), "holds": False}
        return {"setting": f"nothing to compare at {bits:g} bits {held}", **told}
    return {
        "setting": f"embeddings at {bits:g} bits {held}; pixels {pixels:.3f}",
        "measure": "share of the bits told that is about the screen",
        "predicted": "smaller than of pixels",
        "measured": embeddings,
        "holds": embeddings < pixels - CLEARLY,
    }
