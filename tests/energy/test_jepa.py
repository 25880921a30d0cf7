"""Future-predicting JEPAs: energies by hand, what may see what, and how a slow copy moves."""

from __future__ import annotations

import pytest
import torch
from jepas import embedded
from models import WIDTH, clips
from torch import Tensor

from vidssl.energy.jepa import FutureJEPA, VarianceJEPA
from vidssl.latents.deterministic import Deterministic
from vidssl.latents.search.minimised import Minimised
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.layout import Places
from vidssl.nets.predictors import Predictor
from vidssl.objectives.limited import LimitedLatent
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError

KINDS = ["variance", "momentum"]


def by_hand(energy: FutureJEPA, x: Tensor, y: Tensor) -> Tensor:
    """e(y): the last frames' features, each clip's with its own mean taken off and its own deviation divided out."""
    h = energy.embedder(torch.cat((x, y), 1)[:, -energy.embedder.frames :]).flatten(1)
    h = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    return h.unflatten(1, (WIDTH, 8, 8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["none", "categorical", "gaussian_learned", "vq"])
def test_the_energy_is_the_squared_distance_of_normalised_embeddings(kind: str, name: str) -> None:
    energy, (x, y) = embedded(kind, name), clips()
    z = energy.latent.prior(energy.encode(x), 1, torch.Generator().manual_seed(0))[0]
    known = by_hand(energy, x, y)
    torch.testing.assert_close(energy.energy(x, y, z), (known - energy.predictor(energy.encode(x), z)).square().sum((1, 2, 3)), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(energy.seen(x, y).square().sum((1, 2, 3)), torch.full((3,), WIDTH * 64.0), rtol=1e-3, atol=0)
    tried = energy.latent.candidates(energy.encode(x), energy.target(x, y))
    each = torch.stack([energy.energy(x, y, one) for one in tried.z]) + 2.0 * tried.nats
    torch.testing.assert_close(energy.free_energy(x, y), each.amin(0))


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_explanation_is_that_of_every_predictor(kind: str) -> None:
    """It embeds the future once, and finds what the shared code finds, with the same noise."""
    for energy in (embedded(kind, "gaussian_learned"), embedded(kind, "gaussian_learned", inference=Minimised(3, amortised=False))):
        x, y = clips()
        ours = energy.explain(x, y, torch.Generator().manual_seed(3), 0.5)
        theirs = super(FutureJEPA, energy).explain(x, y, torch.Generator().manual_seed(3), 0.5)
        torch.testing.assert_close(ours.energy, theirs.energy)
        torch.testing.assert_close(ours.code.z, theirs.code.z)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_future_leaks_into_the_past_or_the_prior(kind: str) -> None:
    energy, (x, y) = embedded(kind, "gaussian_learned"), clips()
    pasts, futures = x.clone().requires_grad_(), y.clone().requires_grad_()
    given = torch.autograd.grad(energy.explain(pasts, futures).energy.sum(), (pasts, futures))
    assert all(float(g.abs().max()) > 0 for g in given), "E sees both"
    with energy.overheard() as heard:
        energy.explain(pasts, futures)
    (h, known), drawn = heard[0], energy.draw(pasts, 2, torch.Generator().manual_seed(0))
    for made in (h, drawn):
        assert torch.autograd.grad(made.square().sum(), futures, allow_unused=True, retain_graph=True)[0] is None
    if kind == "variance":  # six frames of six: e is of the future alone
        assert not torch.autograd.grad(known.square().sum(), pasts, allow_unused=True)[0].any()


def test_an_embedder_reaches_into_the_past_only_as_far_as_its_frames() -> None:
    energy, (x, y) = embedded(frames=8), clips()
    changed = x.clone()
    changed[:, :2] = 0
    assert torch.equal(energy.seen(x, y), energy.seen(changed, y))
    changed[:, 2] = 0
    assert not torch.allclose(energy.seen(x, y), energy.seen(changed, y))


def test_gradients_reach_the_embedder_of_one_kind_only() -> None:
    x, y = clips()
    for kind in KINDS:
        energy = embedded(kind).train()
        LimitedLatent(10.0).loss(energy, Batch(x, y, torch.arange(3)), Moment(5, 10)).loss.backward()
        reached = [p.grad is not None and bool(p.grad.any()) for p in energy.embedder.parameters()]
        assert any(reached) if kind == "variance" else not any(reached), kind
        assert all(p.requires_grad == (kind == "variance") for p in energy.embedder.parameters())
        for part in (energy.encoder, energy.target_encoder, energy.predictor):
            assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


def test_the_slow_copy_moves_by_its_momentum_and_the_other_kind_by_gradients_alone() -> None:
    energy = embedded("momentum", momentum=0.75)
    slow, fast = energy.embedder.stem.weight.clone(), energy.encoder.stem.weight.clone()
    assert not torch.equal(slow, fast)
    energy.advance(Moment(0, 10))
    torch.testing.assert_close(energy.embedder.stem.weight, 0.75 * slow + 0.25 * fast)
    energy.advance(Moment(1, 10))
    torch.testing.assert_close(energy.embedder.stem.weight, 0.75**2 * slow + (1 - 0.75**2) * fast)
    assert torch.equal(energy.encoder.stem.weight, fast)
    other = embedded("variance")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    other.advance(Moment(0, 10))
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


class Adds(Predictor):
    """g(h, z) = h + z, with z at every place: the least that lets z say all of an embedding."""

    width, latent = WIDTH, WIDTH * 64

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """``h [B, D, 8, 8]``, ``z [B, 64, D]`` -> ``[B, D, 8, 8]``."""
        return h + z.transpose(1, 2).unflatten(2, (8, 8))


def test_a_z_that_may_say_all_copies_the_embedding_and_then_any_future_fits() -> None:
    """The failure that a limit on z is there for: descent on it explains another clip's future, too."""
    free = Deterministic(WIDTH, WIDTH, layout=Places(8, 8))
    energy = VarianceJEPA(32, 6, ClipEncoder(4, 1, WIDTH, 0), ClipEncoder(10, 1, WIDTH, 0), free, Adds(), ClipEncoder(6, 1, WIDTH, 0), 2.0, Minimised(80, 0.2))
    x, y = clips(2)
    wrong = y.roll(1, 0)
    copied = (energy.seen(x, wrong) - energy.encode(x)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(energy.energy(x, wrong, copied), torch.zeros(2), rtol=0, atol=1e-6)
    assert (energy.free_energy(x, wrong) < 0.01 * WIDTH * 64).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_written_down_and_built_again(kind: str) -> None:
    energy, (x, y) = embedded(kind), clips()
    again = build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    torch.testing.assert_close(again.eval().free_energy(x, y), energy.free_energy(x, y))
    drawn = energy.draw(x, 5, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, *energy.encode(x).shape) and drawn.std(0).max() > 0


def test_what_does_not_fit_is_refused() -> None:
    x, _ = clips()
    with pytest.raises(UserError, match="vidssl decoder MODEL"):
        embedded().sample(x, 2)
    with pytest.raises(UserError, match="takes 11 frames and the clip has 10"):
        embedded(frames=11)
    with pytest.raises(UserError, match="16 and 32"):
        embedded(width=32)
    with pytest.raises(UserError, match="from 0 to 1; got 1.5"):
        embedded("momentum", momentum=1.5)
    with pytest.raises(UserError, match="give a target_encoder"):
        embedded(target_encoder=None)
    with pytest.raises(UserError, match="target_encoder must|target encoder and of past"):
        embedded(target_encoder=ClipEncoder(9, 1, WIDTH, 1))
