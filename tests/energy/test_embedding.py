"""Energies in embeddings: the same contract as in pixels, with a teacher that never learns."""

from __future__ import annotations

import pytest
import torch
from models import WIDTH, clips, latent
from torch import Tensor

from vidssl.energy.embedding import EmbeddingEnergy
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.predictors import MixPredictor
from vidssl.objectives.limited import LimitedLatent
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError


def model(name: str = "categorical", frames: int = 4, width: int = WIDTH) -> EmbeddingEnergy:
    torch.manual_seed(0)
    z = latent(name)
    target = None if name == "none" else ClipEncoder(10, 1, WIDTH, 1)
    predictor = MixPredictor(WIDTH, z.slots * z.dim, 2)
    energy = EmbeddingEnergy(32, 6, ClipEncoder(4, 1, WIDTH, 1), target, z, predictor, ClipEncoder(frames, 1, width, 1), 2.0)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return energy.eval()


@pytest.mark.parametrize("name", ["none", "categorical", "gaussian_learned", "vq"])
def test_the_energy_is_the_squared_distance_of_embeddings(name: str) -> None:
    energy, (x, y) = model(name), clips()
    z = energy.latent.prior(energy.encode(x), 1, torch.Generator().manual_seed(0))[0]
    known: Tensor = energy.teacher(torch.cat((x, y), 1)[:, -4:])
    torch.testing.assert_close(energy.energy(x, y, z), (known - energy.predictor(energy.encode(x), z)).square().sum((1, 2, 3)))
    tried = energy.latent.candidates(energy.encode(x), energy.target(x, y))
    each = torch.stack([energy.energy(x, y, one) for one in tried.z]) + 2.0 * tried.nats
    torch.testing.assert_close(energy.free_energy(x, y), each.amin(0))


def test_only_the_teachers_frames_count() -> None:
    energy, (x, y) = model("none"), clips()
    changed = y.clone()
    changed[:, 0] = 0
    assert torch.equal(energy.energy(x, y), energy.energy(x, changed))
    changed[:, -1] = 0
    assert not torch.allclose(energy.energy(x, y), energy.energy(x, changed))


def test_the_teacher_gets_no_gradient_and_the_others_do() -> None:
    energy, (x, y) = model().train(), clips()
    LimitedLatent(10.0).loss(energy, Batch(x, y, torch.arange(3)), Moment(5, 10)).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in energy.teacher.parameters())
    for part in (energy.encoder, energy.target_encoder, energy.predictor):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


def test_it_is_written_down_and_built_again() -> None:
    energy, (x, y) = model(), clips()
    again = build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    torch.testing.assert_close(again.eval().free_energy(x, y), energy.free_energy(x, y))
    drawn = energy.draw(x, 5, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, *energy.encode(x).shape) and drawn.std(0).max() > 0


def test_what_does_not_fit_is_refused() -> None:
    x, _ = clips()
    with pytest.raises(UserError, match="paints no pixels"):
        model().sample(x, 2)
    with pytest.raises(UserError, match="takes 11 frames and the clip has 10"):
        model(frames=11)
    with pytest.raises(UserError, match="16 and 32"):
        model(width=32)
