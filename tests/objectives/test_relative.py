"""The relative objective against its formula: a clip counts by the root of its floor, and a clip's own best does not move."""

from __future__ import annotations

import torch
from models import clips, model

from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.relative import RelativeLimitedLatent, RelativeTargetRate
from vidssl.objectives.target_rate import TargetRate
from vidssl.types import Batch, Moment


def moment() -> Moment:
    """The end of a run, when the price is whole."""
    return Moment(100, 100, torch.Generator().manual_seed(5))


def test_each_clip_is_divided_by_the_root_of_its_floor() -> None:
    energy, (x, y) = model("gaussian_learned"), clips()
    y[0] = x[0, -1:] + 0.01 * y[0]  # little moves
    found = energy.explain(x, y, torch.Generator().manual_seed(5))
    each = found.energy + energy.price * found.code.penalty
    floor = torch.stack([((y[i] - x[i, -1]) ** 2).sum() for i in range(3)])
    out = RelativeLimitedLatent(scale=50.0, offset=2.0).loss(energy, Batch(x, y, torch.arange(3)), moment())
    torch.testing.assert_close(out.loss, (each / (50 * (floor + 2)).sqrt()).mean())


def test_a_clip_whose_floor_is_the_scale_counts_as_in_the_plain_sum() -> None:
    energy, (x, y) = model("gaussian_learned"), clips(1)
    batch = Batch(x, y, torch.arange(1))
    floor = float((y - x[:, -1:]).square().sum())
    mine = RelativeLimitedLatent(scale=floor, offset=0.0).loss(energy, batch, moment()).loss
    torch.testing.assert_close(mine, LimitedLatent(floor).loss(energy, batch, moment()).loss)


def test_a_still_clip_counts_without_infinities() -> None:
    energy, (x, _) = model("none"), clips()
    still = x[:, -1:].expand(-1, 6, -1, -1, -1)
    weight = RelativeLimitedLatent(scale=4.0, offset=1.0).importance(Batch(x, still, torch.arange(3)))
    torch.testing.assert_close(weight, torch.full((3,), 0.5))


def test_a_target_rate_moves_the_price_and_not_the_weights() -> None:
    energy, (x, y) = model("gaussian_learned").train(), clips()
    batch = Batch(x, y, torch.arange(3))
    plain = RelativeLimitedLatent(scale=50.0, offset=2.0).loss(energy, batch, moment())
    before = float(energy.price)
    held = RelativeTargetRate(scale=50.0, offset=2.0, target_bits=1e-3).loss(energy, batch, moment())
    torch.testing.assert_close(held.loss, plain.loss)
    assert float(energy.price) > before, "more bits are paid than the target, so the price rises"


def test_its_controller_is_the_plain_one_argument_by_argument() -> None:
    """Once `least` was handed on as `memory`, and the price leapt to its upper bound at the first step."""
    (x, y), prices = clips(), []
    told = {"target_bits": 3.0, "gain": 0.07, "damping": 0.3, "memory": 0.6, "least": 1e-4, "most": 50.0}
    for objective in (TargetRate(50.0, **told), RelativeTargetRate(50.0, 2.0, **told), TargetRate(50.0, 3.0), RelativeTargetRate(50.0, 2.0, 3.0)):
        energy = model("gaussian_learned").train()
        for _ in range(3):
            objective.loss(energy, Batch(x, y, torch.arange(3)), moment())
        prices.append(float(energy.price))
    assert prices[0] == prices[1] and prices[2] == prices[3] and prices[0] != prices[2]
    assert prices[0] < 50.0, "three steps do not move a price to its bound"
