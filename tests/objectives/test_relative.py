"""The relative objective against its formula: clips count alike, and a clip's own best does not move."""

from __future__ import annotations

import torch
from models import clips, model

from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.relative import RelativeLimitedLatent
from vidssl.types import Batch, Moment


def moment() -> Moment:
    """The end of a run, when the price is whole."""
    return Moment(100, 100, torch.Generator().manual_seed(5))


def test_each_clip_is_divided_by_its_floor() -> None:
    energy, (x, y) = model("gaussian_learned"), clips()
    found = energy.explain(x, y, torch.Generator().manual_seed(5))
    each = found.energy + energy.price * found.code.penalty
    floor = torch.stack([((y[i] - x[i, -1]) ** 2).sum() for i in range(3)])
    out = RelativeLimitedLatent(offset=2.0).loss(energy, Batch(x, y, torch.arange(3)), moment())
    torch.testing.assert_close(out.loss, (each / (floor + 2)).mean())


def test_copying_the_last_frame_costs_one() -> None:
    energy, (x, y) = model("none"), clips()
    with torch.no_grad():  # the mask is one everywhere: the decoder copies
        energy.decoder.head.paint[-1].weight.zero_()
        energy.decoder.head.paint[-1].bias.fill_(100.0)
    y[0] = x[0, -1:] + 1e-4 * (y[0] - 0.5)  # nearly nothing moves
    out = RelativeLimitedLatent(offset=1e-9).loss(energy, Batch(x, y, torch.arange(3)), moment())
    torch.testing.assert_close(out.loss, torch.tensor(1.0), rtol=1e-3, atol=0)


def test_on_one_clip_only_the_scale_differs() -> None:
    energy, (x, y) = model("gaussian_learned"), clips(1)
    batch = Batch(x, y, torch.arange(1))
    floor = float((y - x[:, -1:]).square().sum())
    mine = RelativeLimitedLatent(offset=3.0).loss(energy, batch, moment()).loss
    torch.testing.assert_close(mine, LimitedLatent(floor + 3).loss(energy, batch, moment()).loss)
