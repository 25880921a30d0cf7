"""The masked joint embedding: no leak of hidden pixels, a teacher that only follows, the loss in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from models import clips

from vidssl.energy.regions import RegionEnergy
from vidssl.nets.masks import Blocks, Tubes
from vidssl.nets.momentum import follow, risen
from vidssl.nets.vit import VideoViT
from vidssl.objectives.regions import RegionPrediction
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError


def model(momentum: float = 0.9, past: int = 4, size: int = 16) -> RegionEnergy:
    torch.manual_seed(0)
    energy = RegionEnergy(size, past, 4, VideoViT(4, 1, 16, 24, 2, 2, patch=4, tubelet=2), width=12, depth=1, heads=2, momentum=momentum)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return energy.eval()


def batch(n: int = 3) -> Batch:
    x, y = clips(n, 4, 4, 1, 16)
    return Batch(x, y, torch.arange(n))


def objective() -> RegionPrediction:
    return RegionPrediction([Blocks(8, 0.15, 0.5), Blocks(2, 0.7, 0.75)])


def moment(step: int = 3, seed: int = 2) -> Moment:
    return Moment(step, 10, torch.Generator().manual_seed(seed))


def features(energy: RegionEnergy, clip: torch.Tensor) -> np.ndarray:
    """The teacher's features of all tokens, each less its mean and over its deviation."""
    h = energy.teacher.tokens(clip).double().numpy()
    return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)


def test_the_loss_is_the_mean_distance_over_hidden_tokens_and_masks() -> None:
    energy, data = model(), batch()
    alone = Batch(data.x, data.y[:, :0], data.key)  # four frames: one window
    out = objective().loss(energy, alone, moment())
    wanted, noise, losses = features(energy, data.x), moment().generator, []
    for mask in objective().masks:
        keep, hidden = mask(data.x, energy.encoder.grid, noise)
        told = energy.predict(data.x, keep, hidden).detach().double().numpy()
        losses.append(np.mean([abs(told[i] - wanted[i, hidden[i]]) for i in range(3)]))
    np.testing.assert_allclose(float(out.loss.detach()), np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(float(out.logs["spread"]), wanted.std(0).mean(), rtol=1e-4)


def test_hidden_pixels_reach_the_target_and_not_the_answer() -> None:
    energy, clip = model(), batch().x
    keep, hidden = Tubes(0.75)(clip, energy.encoder.grid, torch.Generator().manual_seed(0))
    tokens = torch.zeros(3, 32).scatter_(1, hidden, 1.0).view(3, 2, 1, 4, 4)
    changed = torch.where(tokens.repeat_interleave(2, 1).repeat_interleave(4, 3).repeat_interleave(4, 4) > 0, 1 - clip, clip)
    assert torch.equal(energy.predict(clip, keep, hidden), energy.predict(changed, keep, hidden))
    assert (energy.target(clip) - energy.target(changed)).abs().amax(2).min() > 1e-4
    seen = energy.predict(1 - clip, keep, hidden) - energy.predict(clip, keep, hidden)
    assert seen.abs().amax(2).min() > 1e-3


def test_the_teacher_gets_no_gradient_and_the_others_do() -> None:
    energy = model().train()
    objective().loss(energy, batch(), moment()).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in energy.teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for part in (energy.encoder, energy.filler) for p in part.parameters())


@pytest.mark.parametrize("step, m", [(0, 0.9), (5, 0.95), (10, 1.0)])
def test_the_teacher_moves_by_the_formula_before_the_step_and_in_training_alone(step: int, m: float) -> None:
    energy = model()
    before, student = [p.clone() for p in energy.teacher.parameters()], [p.detach() for p in energy.encoder.parameters()]
    objective().loss(energy, batch(), moment(step))
    assert all(torch.equal(p, old) for p, old in zip(energy.teacher.parameters(), before, strict=True)), "validation moves nothing"
    out = objective().loss(energy.train(), batch(), moment(step))
    for p, old, new in zip(energy.teacher.parameters(), before, student, strict=True):
        torch.testing.assert_close(p, m * old + (1 - m) * new)
    again = objective().loss(energy.eval(), batch(), moment(step))
    assert torch.equal(out.loss, again.loss), "the moved teacher made the targets"


def test_momentum_rises_by_a_cosine() -> None:
    assert risen(0.998, 0.0) == 0.998 and risen(0.998, 1.0) == 1.0
    assert math.isclose(risen(0.998, 0.25), 1 - 0.002 * (math.cos(math.pi / 4) + 1) / 2)
    slow, fast = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    wanted = 0.75 * slow.weight.detach() + 0.25 * fast.weight.detach()
    follow([slow], [fast], 0.75)
    torch.testing.assert_close(slow.weight.detach(), wanted)
    assert slow.weight.requires_grad and slow.weight.grad_fn is None


def test_the_energy_is_the_distance_at_the_futures_start_from_an_answer_without_y(monkeypatch: pytest.MonkeyPatch) -> None:
    energy, data, told = model(), batch(), []
    plain = energy.predict
    monkeypatch.setattr(energy, "predict", lambda *a: told.append(plain(*a)) or told[-1])
    found, other = energy.energy(data.x, data.y), energy.energy(data.x, 1 - data.y)
    assert torch.equal(*told) and not torch.allclose(found, other)
    wanted = features(energy, torch.cat((data.x[:, -2:], data.y[:, :2]), 1))[:, 16:]
    np.testing.assert_allclose(found.detach().numpy(), abs(told[0].detach().double().numpy() - wanted).sum((1, 2)), rtol=1e-5)


def test_a_teacher_that_tells_positions_alone_shows_in_the_spread() -> None:
    energy, data = model(), batch()
    with torch.no_grad():
        energy.teacher.embed.weight.zero_()
    found = objective().loss(energy, data, moment()).logs["spread"]
    assert found < 1e-5 and energy.target(data.x).std(1).mean() > 0.1


def test_a_constant_embedding_would_please_the_loss_and_shows_in_the_spread() -> None:
    energy, data = model(), batch()
    with torch.no_grad():
        energy.teacher.norm.weight.zero_()
        energy.teacher.norm.bias.copy_(torch.arange(24.0))
        energy.filler.project.weight.zero_()
        energy.filler.project.bias.copy_(energy.target(data.x)[0, 0])
    out = objective().loss(energy, data, moment())
    assert out.loss < 1e-5 and out.logs["spread"] < 1e-5


def test_it_is_written_down_and_built_again() -> None:
    energy, data = model(), batch()
    again = build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    assert torch.equal(again.eval().energy(data.x, data.y), energy.energy(data.x, data.y))
    assert energy.encode(data.x).shape == (3, 24, 4, 4) and not energy.paints


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="from 0 to 1; got 1.1"):
        model(momentum=1.1)
    with pytest.raises(UserError, match="takes 4 frames and the past has 2"):
        model(past=2)
    with pytest.raises(UserError, match="16 and 32"):
        model(size=32)
    with pytest.raises(UserError, match="at least 1 mask; got 0"):
        RegionPrediction([])
    with pytest.raises(UserError, match="share 0.98 hides 16 of 16 places"):
        RegionPrediction([Blocks(2, 0.7, 0.98)]).loss(model(), batch(), moment())
    with pytest.raises(UserError, match="trains a RegionEnergy; got Linear"):
        objective().loss(torch.nn.Linear(1, 1), batch(), moment())
    with pytest.raises(UserError, match="paints no futures"):
        model().sample(batch().x, 2)
