"""The limited-latent objective against its formula."""

from __future__ import annotations

import pytest
import torch
from models import clips, model

from vidssl.objectives.limited import LimitedLatent
from vidssl.types import Batch, Moment


@pytest.mark.parametrize(
    ("start", "step", "weight"),
    [(0.0, 0, 0.0), (0.0, 10, 0.5), (0.0, 20, 1.0), (0.0, 90, 1.0), (5.0, 0, 5.0), (5.0, 10, 3.0), (5.0, 20, 1.0), (5.0, 90, 1.0)],
)
def test_loss_is_distortion_plus_priced_penalty(start: float, step: int, weight: float) -> None:
    energy = model("gaussian_learned")
    x, y = clips()
    batch = Batch(x, y, torch.arange(3))
    found = energy.explain(x, y, torch.Generator().manual_seed(5))
    out = LimitedLatent(scale=50.0, warmup=0.2, start=start).loss(energy, batch, Moment(step, 100, torch.Generator().manual_seed(5)))
    expected = (found.energy.mean() + weight * energy.price * found.code.penalty.mean()) / 50
    torch.testing.assert_close(out.loss, expected)
    torch.testing.assert_close(out.logs["black"], y.square().sum((1, 2, 3, 4)).mean())
    assert not any(value.requires_grad for value in out.logs.values())
