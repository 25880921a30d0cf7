"""Possible or impossible, on energies whose answer is known: the exact oracle, a constant, and one that likes the dark."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import model
from scipy.stats import binomtest
from torch import Tensor

from vidssl.data.module import WorldData
from vidssl.data.worlds.base import World
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.fork import Fork
from vidssl.data.worlds.impossible import pairs
from vidssl.data.worlds.match import fit
from vidssl.data.worlds.trellis import Trellis
from vidssl.data.worlds.walls import belief
from vidssl.energy.base import Energy
from vidssl.energy.joint import SiameseJoint
from vidssl.evaluation.impossible import compared, judge, wilson
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import MLPHead
from vidssl.types import UserError, to_uint8

ONE = Bounce(size=32, past=4, future=6, digits=1, digit_size=14)


def data(world: World = ONE, seed: int = 0) -> WorldData:
    return WorldData(world, 8, 8, 8, 8, seed)


class Known(Energy):
    """An energy that is a function of (x, y)."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.future, self.size, self.channels = ONE.past, ONE.future, ONE.size, ONE.channels

    def encode(self, x: Tensor) -> Tensor:
        """Not asked for."""
        raise NotImplementedError

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """Not asked for."""
        raise NotImplementedError

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """There is no z."""
        return self.free_energy(x, y)

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """Constant."""
        return torch.zeros(len(x))


class Dark(Known):
    """Light is energy."""

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of all grey levels, exact."""
        return y.mul(255).round().flatten(1).sum(1)


class Broken(Known):
    """Not a number."""

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """NaN for the dark."""
        return y.flatten(1).sum(1).log()


class Nearest(Known):
    """Squared distance to the nearest true future, exact: the past's pixels tell the state."""

    def __init__(self, count: int) -> None:
        super().__init__()
        known = pairs(ONE, 0, count)
        self.states = {x.numpy().tobytes(): state for x, state in zip(known.x, known.state, strict=True)}

    def free_energy(self, x: Tensor, y: Tensor) -> Tensor:
        """By the cheapest track of the trellis of all possible ones."""
        found = []
        for past, video in zip(x, y, strict=True):
            row = self.states[to_uint8(past).numpy().tobytes()].numpy().astype(int)
            seen = row[1:].reshape(-1, 2)
            trellis = Trellis(seen[-1], belief(seen, ONE.limit), ONE.future, ONE.limit)
            picture = ONE.pool[row[0]].astype(np.float32) / 255
            (way,) = fit(video[None, :, 0].numpy(), picture[None], [trellis], [[0]])[0]
            nearest = np.zeros((ONE.future, ONE.size, ONE.size), np.float32)
            for frame, (r, c) in zip(nearest, way[0]):
                frame[r : r + 14, c : c + 14] = picture
            found.append(float(np.square(nearest - video[:, 0].numpy()).sum()))
        return torch.tensor(found)


def test_the_oracle_is_always_right() -> None:
    found = judge(Nearest(20), data(), 20)["free_energy"]
    assert set(found) == {"vanish", "identity", "leave", "wrap"}
    for kind, row in found.items():
        assert row["accuracy"] == row["high"] == 1 and row["ties"] == 0 and row["auroc"] == 1 and row["low"] == pytest.approx(20 / (20 + 3.8415), abs=1e-4), kind


def test_a_constant_is_at_chance() -> None:
    for row in judge(Known(), data(), 16)["free_energy"].values():
        assert row["accuracy"] == row["auroc"] == 0.5 and row["ties"] == 1 and row["low"] + row["high"] == pytest.approx(1)


def test_one_that_likes_the_dark_believes_that_things_vanish() -> None:
    found = judge(Dark(), data(), 32)["free_energy"]
    assert found["vanish"]["accuracy"] == 0 and found["leave"]["accuracy"] < 0.5 and 0.1 < found["identity"]["accuracy"] < 0.9
    assert found["wrap"]["ties"] == 1, "what wraps is whole"


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 7), (128, 256), (256, 256)])
def test_the_interval_is_wilsons(hits: int, n: int) -> None:
    witness = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits / n, n) == pytest.approx((witness.low, witness.high), abs=1e-6)


def test_ties_count_half() -> None:
    found = compared(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 2.0, 1.0, 5.0]))
    assert found["accuracy"] == (1 + 0.5 + 0 + 1) / 4 and found["ties"] == 0.25


@pytest.mark.parametrize("name", ["categorical", "gaussian_learned", "none"])
def test_latent_energies_are_asked_hard_and_soft(name: str) -> None:
    energy = model(name)
    found, again = judge(energy, data(), 3), judge(energy, data(), 3)
    assert found == again and set(found["free_energy"]) == set(found["soft_free_energy"])
    assert found["protocol"]["context"] == 4 and found["protocol"]["pairs"] == 3 and len(found["protocol"]["weights"]) == 64


def test_other_worlds_and_joint_embeddings() -> None:
    world = Fork()
    joint = SiameseJoint(32, 4, 6, ClipEncoder(4, 1, 16, 1), MLPHead(16, 8, 8), MLPHead(8, 8, 8))
    found = judge(joint, data(world), 8)
    assert set(found["free_energy"]) == {"vanish"} and "soft_free_energy" not in found
    assert found["free_energy"]["vanish"]["ties"] == 0 and joint.training is False


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="agree on past; the model has 4, the data 5"):
        judge(Known(), data(Bounce(past=5)), 4)
    with pytest.raises(UserError, match="not finite"):
        judge(Broken(), data(), 4)
    nowhere = data()
    nowhere.world = None
    with pytest.raises(UserError, match="made from a world"):
        judge(Known(), nowhere, 4)
