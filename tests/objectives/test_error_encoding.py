"""Error encoding: z sees the error of a predictor of its own, and no gradient passes between the two."""

from __future__ import annotations

import json

import pytest
import torch
from models import WIDTH, clips, model

from vidssl.energy.predictive import PixelEnergy, distortion
from vidssl.latents.deterministic import Deterministic
from vidssl.nets.decoders import CopyDecoder
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.error_encoder import ErrorEncoder
from vidssl.nets.predictors import MixPredictor
from vidssl.objectives.error_encoding import ErrorEncoding
from vidssl.objectives.limited import LimitedLatent
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError


def parts() -> ErrorEncoder:
    return ErrorEncoder(ClipEncoder(4, 1, WIDTH, 1), MixPredictor(WIDTH, 0, 1), CopyDecoder(6, 1, WIDTH, frame_width=8), ClipEncoder(10, 1, WIDTH, 1))


def energy() -> PixelEnergy:
    torch.manual_seed(0)
    made = PixelEnergy(
        32, ClipEncoder(4, 1, WIDTH, 1), parts(), Deterministic(WIDTH, 2), MixPredictor(WIDTH, 2, 1), CopyDecoder(6, 1, WIDTH, frame_width=8), 1.0
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def moved(e: PixelEnergy) -> set[str]:
    """Parts with a gradient; those of the target encoder by their own names."""
    with_gradient = [name for name, p in e.named_parameters() if p.grad is not None and p.grad.any()]
    return {".".join(name.split(".")[: 2 if name.startswith("target_encoder") else 1]) for name in with_gradient}


def test_it_sees_the_error_and_nothing_else_of_the_future() -> None:
    encoder, (x, y) = parts(), clips()
    with torch.no_grad():
        byhand = encoder.inner(torch.cat((x, y - encoder.predict(x)), 1))
        torch.testing.assert_close(encoder(torch.cat((x, y), 1)), byhand)
        certain = torch.cat((x, encoder.predict(x)), 1)
        nothing = encoder.inner(torch.cat((x, torch.zeros_like(y)), 1))
        torch.testing.assert_close(encoder(certain), nothing)


def test_gradients_do_not_mix() -> None:
    e, (x, y) = energy(), clips()
    guess = {"target_encoder.past", "target_encoder.predictor", "target_encoder.decoder"}
    e.explain(x, y).energy.sum().backward()
    assert moved(e) == {"encoder", "latent", "predictor", "decoder", "target_encoder.inner"}
    e.zero_grad()
    distortion(y, e.target_encoder.predict(x)).sum().backward()
    assert moved(e) == guess


def test_loss_is_the_sum_of_both() -> None:
    e, (x, y) = energy(), clips()
    batch, moment = Batch(x, y, torch.arange(3)), Moment(5, 10)
    out, plain = ErrorEncoding(50.0).loss(e, batch, moment), LimitedLatent(50.0).loss(e, batch, moment)
    alone = (y - e.target_encoder.predict(x)).square().sum((1, 2, 3, 4)).mean()
    torch.testing.assert_close(out.loss, plain.loss + alone / 50)
    torch.testing.assert_close(out.logs["without"], alone.detach())
    assert not any(value.requires_grad for value in out.logs.values())


def test_the_predictor_learns_as_it_would_alone() -> None:
    e, (x, y) = energy(), clips()
    ErrorEncoding(50.0).loss(e, Batch(x, y, torch.arange(3)), Moment(5, 10)).loss.backward()
    got = e.target_encoder.past.stem.weight.grad.clone()
    e.zero_grad()
    (distortion(y, e.target_encoder.predict(x)).mean() / 50).backward()
    torch.testing.assert_close(got, e.target_encoder.past.stem.weight.grad)


def test_built_again() -> None:
    e, (x, y) = energy().eval(), clips()
    again = build(json.loads(json.dumps(spec_of(e))))
    again.load_state_dict(e.state_dict())
    torch.testing.assert_close(again.eval().free_energy(x, y), e.free_energy(x, y))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="10 and 11"):
        ErrorEncoder(ClipEncoder(5, 1, WIDTH, 1), MixPredictor(WIDTH, 0, 1), CopyDecoder(6, 1, WIDTH), ClipEncoder(10, 1, WIDTH, 1))
    with pytest.raises(UserError, match="3 and 0"):
        ErrorEncoder(ClipEncoder(4, 1, WIDTH, 1), MixPredictor(WIDTH, 3, 1), CopyDecoder(6, 1, WIDTH), ClipEncoder(10, 1, WIDTH, 1))
    x, y = clips()
    with pytest.raises(UserError, match="got ClipEncoder"):
        ErrorEncoding(50.0).loss(model("vq"), Batch(x, y, torch.arange(3)), Moment())
