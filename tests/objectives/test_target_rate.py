"""The controller of the rate where its answer is known, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from linear import Linear, price_for, water
from models import WIDTH, clips, latent, model

from vidssl.energy.base import Explanation, LatentEnergy
from vidssl.latents.base import Code
from vidssl.latents.categorical import Categorical
from vidssl.latents.gaussian import GaussianFixed
from vidssl.objectives.target_rate import TargetRate
from vidssl.types import Batch, Moment, UserError


class Known(LatentEnergy):
    """The linear-Gaussian case as an energy, expectations over z in closed form."""

    def __init__(self, price: float) -> None:
        super().__init__()
        self.latent, self.linear = GaussianFixed(WIDTH, 4), Linear(learned=False)
        self.register_buffer("price", torch.tensor(price))

    def explain(self, x, y, generator=None, share=1.0):
        q, p = self.linear.q(), self.linear.p()
        nats = self.latent.penalty(q, p)
        return Explanation(self.linear.distortion(q), Code(q.mean, nats.detach() / math.log(2), nats))

    encode = target = energy = free_energy = soft_free_energy = sample = None


def settle(energy: Known, objective: TargetRate, steps: int) -> None:
    batch = Batch(torch.zeros(8, 1, 1, 1, 1), torch.zeros(8, 1, 1, 1, 1), torch.arange(8))
    optimizer = torch.optim.Adam(energy.parameters(), 0.05, betas=(0.8, 0.95))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps) + 0.002
        optimizer.zero_grad()
        objective.loss(energy, batch, Moment(step, steps, torch.Generator())).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("start", [1.5, 0.01])
def test_the_rate_comes_to_its_target_and_the_price_is_the_known_one(start: float) -> None:
    energy, target = Known(start), 6.0
    settle(energy, TargetRate(scale=1.0, target_bits=target, warmup=0.1), 400)
    found = energy.explain(None, None)
    beta = price_for(target)
    assert float(water(beta / 2)[0].sum()) == pytest.approx(target, rel=1e-6)
    assert float(found.code.rate_bits.mean()) == pytest.approx(target, rel=0.02)
    assert float(energy.price) == pytest.approx(beta, rel=0.05)
    assert float(found.energy.detach().mean()) == pytest.approx(float(water(beta / 2)[1].sum()), rel=0.03)


def test_the_price_stays_where_it_is_in_the_warm_up_and_in_eval() -> None:
    energy, (x, y) = model("gaussian_learned"), clips()
    batch, objective = Batch(x, y, torch.arange(3)), TargetRate(scale=1.0, target_bits=0.01, warmup=0.5)
    for training, step, moves in ((True, 10, False), (False, 60, False), (True, 60, True)):
        energy.train(training)
        before = float(energy.price)
        logs = objective.loss(energy, batch, Moment(step, 100, torch.Generator().manual_seed(0))).logs
        assert (float(energy.price) > before) == moves and float(logs["price"]) == float(energy.price)


def test_the_price_moves_as_fast_at_the_end_as_after_the_warm_up() -> None:
    batch, moved = Batch(*clips(), torch.arange(3)), []
    for step in (20, 99):
        energy = model("gaussian_learned").train()
        TargetRate(scale=1.0, target_bits=0.01).loss(energy, batch, Moment(step, 100, torch.Generator().manual_seed(0)))
        moved.append(float(energy.price))
    assert moved[0] == moved[1] != float(model("gaussian_learned").price)


def test_one_step_is_the_equation() -> None:
    objective, price = TargetRate(scale=1.0, target_bits=2.0, gain=0.1, damping=0.4, memory=0.75), torch.tensor(3.0)
    objective._control(price, torch.tensor(2.8))
    average = 0.75 * 2 + 0.25 * 2.8
    error = math.log(average / 2)
    assert float(objective.bits) == pytest.approx(average)
    assert float(price) == pytest.approx(3 * math.exp(0.1 * error + 0.4 * error))
    objective._control(price, torch.tensor(average))
    assert float(price) == pytest.approx(3 * math.exp(0.1 * error + 0.4 * error) * math.exp(0.1 * error)), "what stays wrong moves the price steadily"
    objective._control(price := torch.tensor(3.0), torch.tensor(1e6))
    assert float(price) == pytest.approx(3 * math.exp(0.1 * 0.3 + 0.4 * (0.3 - error)), rel=1e-5), "far away the pace is bounded"
    bounded = TargetRate(scale=1.0, target_bits=2.0, most=3.01)
    bounded._control(price := torch.tensor(3.0), torch.tensor(1e6))
    assert float(price) == pytest.approx(3.01)


def test_impossible_targets_are_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match="positive.*-1"):
        TargetRate(scale=1.0, target_bits=-1)
    with pytest.raises(UserError, match="positive.*0"):
        TargetRate(scale=1.0, target_bits=0)
    batch = Batch(*clips(), torch.arange(3))
    for name, bits, match in [
        ("categorical", 3.5, "capacity.*3.5.*Categorical.*3 bits"),
        ("free_bits", 0.3, "0.3 and FreeBits with a floor of 0.43"),
        ("delta", 0.5, "0.5 and DeltaVAE with a floor of 1.70"),
        ("fixed_snr", 2.0, "FixedSNR has no price.*2.0"),
        ("wae", 2.0, "WAE has no price.*2.0"),
    ]:
        with pytest.raises(UserError, match=match):
            TargetRate(scale=1.0, target_bits=bits).loss(model(name), batch, Moment(0, 10, torch.Generator()))


@pytest.mark.parametrize("name", ["free_bits", "balance", "delta", "dropout", "erasure"])
def test_targets_within_reach_are_taken(name: str) -> None:
    assert latent(name).priced
    out = TargetRate(scale=1.0, target_bits=3.0).loss(model(name), Batch(*clips(), torch.arange(3)), Moment(0, 10, torch.Generator()))
    assert out.loss.isfinite() and Categorical(WIDTH, 8).floor_bits == 0
