"""A decoder that reads embeddings: it shows what they are, answers as the inner energy does, and changes nothing in it."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
import torch
from jepas import KINDS, embedded, rendered
from models import WIDTH, clips

import vidssl
from vidssl.energy.rendered import Rendered
from vidssl.export.card import Opened
from vidssl.export.load import load_encoder
from vidssl.export.write import export
from vidssl.nets.decoders import CopyDecoder
from vidssl.objectives.limited import LimitedLatent
from vidssl.spec import build, spec_of
from vidssl.training.render import fit_decoder, render_loss
from vidssl.types import Batch, Moment, UserError

@pytest.mark.parametrize("kind", KINDS)
def test_futures_are_decoded_draws(kind: str) -> None:
    energy, (x, _) = rendered(kind), clips()
    drawn = energy.inner.draw(x, 3, torch.Generator().manual_seed(4))
    made = energy.sample(x, 3, torch.Generator().manual_seed(4))
    for n in range(3):
        for b in range(len(x)):
            one = energy.decoder(drawn[n, b][None], x[b, -1][None])[0].clamp(0, 1)
            torch.testing.assert_close(made[n, b], one)
    assert made.std(0).max() > 0


def test_beyond_its_horizon_it_goes_on_from_its_own_frames() -> None:
    energy, (x, _) = rendered(), clips(2)
    made = energy.sample(x, 3, torch.Generator().manual_seed(4), horizon=9)
    assert made.shape == (3, 2, 9, 1, 32, 32)
    noise = torch.Generator().manual_seed(4)
    first = energy.sample(x, 3, noise)
    torch.testing.assert_close(made[:, :, :6], first)
    again = energy.sample(first[:, :, -4:].flatten(0, 1), 1, noise)[0].unflatten(0, (3, 2))
    torch.testing.assert_close(made[:, :, 6:], again[:, :, :3])


@pytest.mark.parametrize("kind", KINDS)
def test_energies_z_and_price_are_the_inner_ones(kind: str) -> None:
    energy, (x, y) = rendered(kind, "gaussian_learned"), clips()
    bare = energy.inner
    z = bare.latent.prior(bare.encode(x), 1)[0]
    pairs = [(energy.energy(x, y, z), bare.energy(x, y, z)), (energy.energy(x, y), bare.energy(x, y)), (energy.free_energy(x, y), bare.free_energy(x, y))]
    pairs += [(energy.encode(x), bare.encode(x)), (energy.target(x, y), bare.target(x, y))]
    pairs += [tuple(e.soft_free_energy(x, y, 4, torch.Generator().manual_seed(1)) for e in (energy, bare))]
    pairs += [tuple(e.explain(x, y, torch.Generator().manual_seed(1)).code.z for e in (energy, bare))]
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs)
    assert energy.latent is bare.latent and energy.price is bare.price and energy.encoder is bare.encoder and energy.paints
    assert torch.equal(energy.posterior(x, y).mean, bare.posterior(x, y).mean)
    assert (energy.past, energy.future, energy.size, energy.channels) == (4, 6, 32, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_the_decoder_leaves_the_inner_energy_as_it_is_bit_by_bit(kind: str) -> None:
    energy, (x, y) = rendered(kind), clips(8)
    before = {name: value.clone() for name, value in energy.inner.state_dict().items()}
    decoder = {name: value.clone() for name, value in energy.decoder.state_dict().items()}
    given = [Batch(x, y, torch.arange(8))] * 40
    first = float(render_loss(energy, given[0]).detach())
    last = fit_decoder(energy, given, 40, 1e-2)
    assert last < 0.8 * first and not energy.training
    assert all(torch.equal(value, before[name]) for name, value in energy.inner.state_dict().items())
    assert not all(torch.equal(value, decoder[name]) for name, value in energy.decoder.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_the_inner_energy(kind: str) -> None:
    energy, (x, y) = rendered(kind), clips()
    energy.requires_grad_(True)  # not even where somebody thaws it
    render_loss(energy, Batch(x, y, torch.arange(3))).backward()
    assert all(p.grad is None for p in energy.inner.parameters())
    assert all(p.grad is not None for p in energy.decoder.parameters())
    embedding = energy.inner.encode(x)
    shown = energy.show(embedding, x[:, -1])
    assert torch.autograd.grad(shown.sum(), embedding, allow_unused=True)[0] is None


def test_it_is_frozen_when_it_is_made() -> None:
    energy, (x, y) = rendered(), clips()
    assert not any(p.requires_grad for p in energy.inner.parameters()) and all(p.requires_grad for p in energy.decoder.parameters())
    with pytest.raises(RuntimeError, match="does not require grad"):
        LimitedLatent(10.0).loss(energy, Batch(x, y, torch.arange(3)), Moment(5, 10)).loss.backward()


def test_the_loss_is_squared_error_from_true_embeddings_and_from_predicted_ones_half_and_half() -> None:
    energy, (x, y) = rendered(name="gaussian_learned"), clips(5)
    inner, noise = energy.inner, torch.Generator().manual_seed(3)
    z = inner.latent.infer(inner.encode(x[2:]), inner.target(x[2:], y[2:]), noise).z
    read = torch.cat((inner.seen(x[:2], y[:2]), inner.decode(inner.encode(x[2:]), z, x[2:])))
    made = energy.decoder(read, x[:, -1])
    torch.testing.assert_close(render_loss(energy, Batch(x, y, torch.arange(5)), torch.Generator().manual_seed(3)), (made - y).square().sum() / 5)
    alone = render_loss(energy, Batch(x[:1], y[:1], torch.arange(1)))
    assert alone.shape == () and float(alone.detach()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_written_down_exported_and_opened(kind: str, tmp_path: Path) -> None:
    energy, (x, y) = rendered(kind), clips()
    again = build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    export(Opened(energy, {}, {}, ""), tmp_path / "model", "model")
    export(Opened(energy, {}, {}, ""), tmp_path / "encoder", "encoder")
    opened = vidssl.load(tmp_path / "model")
    for other in (again.eval(), opened):
        torch.testing.assert_close(other.free_energy(x, y), energy.free_energy(x, y))
        assert torch.equal(other.sample(x, 2, torch.Generator().manual_seed(0)), energy.sample(x, 2, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(load_encoder(tmp_path / "encoder").encode(x), energy.encode(x))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="got PixelEnergy"):
        Rendered(models.model("categorical"), CopyDecoder(6, 1, WIDTH))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="frames of the future and of the decoder must be equal; got 6 and 5"):
        Rendered(embedded(), CopyDecoder(5, 1, WIDTH))
    with pytest.raises(UserError, match="width .* 16 and 8"):
        Rendered(embedded(), CopyDecoder(6, 1, 8))
