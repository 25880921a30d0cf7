"""The masked auto-encoder: no leak of hidden pixels, targets by hand, the loss in NumPy, an energy whose answer does not depend on y."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import clips
from torch import Tensor

from vidssl.energy.masked import MaskedAutoencoder, normalised
from vidssl.nets.masks import Ahead, Tubes
from vidssl.nets.vit import VideoViT
from vidssl.objectives.masked import MaskedAutoencoding
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError


def model(frames: int = 4, past: int = 4, future: int = 4, size: int = 16, channels: int = 1) -> MaskedAutoencoder:
    torch.manual_seed(0)
    energy = MaskedAutoencoder(size, past, future, VideoViT(frames, channels, size, 24, 2, 2, patch=4, tubelet=2), width=12, depth=1, heads=2)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return energy.eval()


def batch(n: int = 3, channels: int = 1) -> Batch:
    x, y = clips(n, 4, 4, channels, 16)
    return Batch(x, y, torch.arange(n))


def moment(seed: int = 2) -> Moment:
    return Moment(3, 10, torch.Generator().manual_seed(seed))


def tubelets(clip: np.ndarray) -> np.ndarray:
    """``[B, 4, C, 16, 16] -> [B, 32, 32 C]``, one at a time."""
    made = []
    for one in clip:
        made.append([one[t : t + 2, :, i : i + 4, j : j + 4].ravel() for t in (0, 2) for i in range(0, 16, 4) for j in range(0, 16, 4)])
    return np.array(made)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_target_is_each_tubelets_pixels_normalised_by_hand(channels: int) -> None:
    energy, data = model(channels=channels), batch(channels=channels)
    data.x[0, :2, :, :4, :4] = 0.3  # a tubelet of one colour
    pixels = tubelets(data.x.double().numpy())
    mean, variance = pixels.mean(-1, keepdims=True), pixels.var(-1, ddof=1, keepdims=True)
    found = energy.target(data.x)
    np.testing.assert_allclose(found.numpy(), (pixels - mean) / np.sqrt(variance + 1e-6), atol=2e-4)
    assert found[0, 0].abs().max() < 1e-4 and torch.allclose(found[1:].var(-1), torch.ones(2, 32), atol=1e-3)


def test_brightness_and_contrast_of_a_tubelet_do_not_count() -> None:
    pixels = torch.rand(5, 32, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(normalised(0.5 * pixels + 0.2), normalised(pixels), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mask", [Tubes(0.75), Ahead()], ids=["tubes", "ahead"])
def test_hidden_pixels_do_not_reach_the_answer_and_visible_ones_do(mask: Tubes) -> None:
    energy, clip = model(), batch().x
    keep, hidden = mask(clip, energy.encoder.grid, torch.Generator().manual_seed(0))
    before = energy.predict(clip, keep, hidden)
    for which, same in ((hidden, True), (keep, False)):
        tokens = torch.zeros(3, 32).scatter_(1, which, 1.0).view(3, 2, 1, 4, 4)
        pixels = tokens.repeat_interleave(2, 1).repeat_interleave(4, 3).repeat_interleave(4, 4) > 0
        after = energy.predict(torch.where(pixels, 1 - clip, clip), keep, hidden)
        assert torch.equal(before, after) if same else (before - after).abs().amin((1, 2)).max() > 0
        assert same or (before - after).abs().amax(2).min() > 1e-3, "every answer depends on what is seen"


def test_each_place_is_asked_by_its_position() -> None:
    energy, clip = model(), batch().x
    keep, hidden = Tubes(0.75)(clip, energy.encoder.grid, torch.Generator().manual_seed(0))
    turned = hidden.flip(1)
    torch.testing.assert_close(energy.predict(clip, keep, turned), energy.predict(clip, keep, hidden).flip(1))
    assert (energy.predict(clip, keep, hidden).diff(dim=1).abs().amax(2) > 1e-4).all()


def test_the_loss_is_the_mean_square_over_hidden_tubelets_alone() -> None:
    energy, data = model(), batch()
    out = MaskedAutoencoding(Tubes(0.75)).loss(energy, Batch(data.x, data.y[:, :0], data.key), moment())  # four frames: one window
    keep, hidden = Tubes(0.75)(data.x, energy.encoder.grid, moment().generator)
    told, pixels = energy.predict(data.x, keep, hidden).detach().double().numpy(), tubelets(data.x.double().numpy())
    errors, flat = [], []
    for clip in range(3):
        for place, token in enumerate(hidden[clip].tolist()):
            p = pixels[clip, token]
            wanted = (p - p.mean()) / np.sqrt(p.var(ddof=1) + 1e-6)
            errors.append(((told[clip, place] - wanted) ** 2).mean())
            flat.append((wanted**2).mean())
    assert len(errors) == 3 * 24
    np.testing.assert_allclose(float(out.loss.detach()), np.mean(errors), rtol=1e-5)
    np.testing.assert_allclose(float(out.logs["flat"]), np.mean(flat), rtol=1e-5)


def test_windows_come_from_anywhere_in_the_clip_and_by_the_generator_alone() -> None:
    task, n = MaskedAutoencoding(Tubes(0.75)), 500
    time = torch.arange(8.0).view(1, 8, 1, 1, 1).expand(n, 8, 1, 1, 1) / 10
    data = Batch(time[:, :4], time[:, 4:], torch.arange(n))
    window = task.window(data, 4, torch.Generator().manual_seed(0))[:, :, 0, 0, 0] * 10
    torch.testing.assert_close(window.diff(dim=1), torch.ones(n, 3))
    counts = torch.bincount(window[:, 0].round().long(), minlength=5)
    assert len(counts) == 5 and (counts - n / 5).abs().max() < 5 * (n * 0.16) ** 0.5
    assert torch.equal(window, task.window(data, 4, torch.Generator().manual_seed(0))[:, :, 0, 0, 0] * 10)
    with pytest.raises(UserError, match="window of 9 frames is longer than the clip, which has 8"):
        task.window(data, 9)


def energies(energy: MaskedAutoencoder, x: Tensor, y: Tensor) -> list[float]:
    """The energy in NumPy: the last two frames of x and the first two of y, whose tokens are the later sixteen."""
    clip = torch.cat((x[:, -2:], y[:, :2]), 1)
    order = torch.arange(32).expand(len(x), -1)
    told = energy.predict(clip, order[:, :16], order[:, 16:]).detach().double().numpy()
    pixels = tubelets(clip.double().numpy())[:, 16:]
    wanted = (pixels - pixels.mean(-1, keepdims=True)) / np.sqrt(pixels.var(-1, ddof=1, keepdims=True) + 1e-6)
    return [float(e) for e in ((told - wanted) ** 2).sum((1, 2))]


def test_the_energy_is_the_squared_error_of_the_futures_start() -> None:
    energy, data = model(), batch()
    found = energy.energy(data.x, data.y)
    np.testing.assert_allclose(found.detach().numpy(), energies(energy, data.x, data.y), rtol=1e-4)
    assert torch.equal(found, energy.free_energy(data.x, data.y))


def test_the_answer_does_not_depend_on_y(monkeypatch: pytest.MonkeyPatch) -> None:
    energy, data, told = model(), batch(), []
    plain = energy.predict
    monkeypatch.setattr(energy, "predict", lambda *a: told.append(plain(*a)) or told[-1])
    assert not torch.allclose(energy.energy(data.x, data.y), energy.energy(data.x, 1 - data.y))
    assert torch.equal(*told)
    x = data.x.clone().requires_grad_()
    energy.energy(x, data.y).sum().backward()
    assert x.grad[:, -2:].abs().max() > 0 and x.grad[:, :-2].abs().max() == 0


def test_it_is_written_down_and_built_again() -> None:
    energy, data = model(), batch()
    again = build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    assert torch.equal(again.eval().energy(data.x, data.y), energy.energy(data.x, data.y))
    assert energy.encode(data.x).shape == (3, 24, 4, 4) and not energy.paints
    assert (energy.past, energy.future, energy.channels, energy.size) == (4, 4, 1, 16)


def test_everything_learns_and_no_target_does() -> None:
    energy, data = model().train(), batch()
    MaskedAutoencoding(Tubes(0.75)).loss(energy, data, moment()).loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in energy.parameters())
    assert not energy.target(data.x.requires_grad_()).requires_grad


def test_what_does_not_fit_is_refused() -> None:
    data = batch()
    with pytest.raises(UserError, match="share 0.98 hides 16 of 16 places"):
        MaskedAutoencoding(Tubes(0.98)).loss(model(), data, moment())
    with pytest.raises(UserError, match="18 pixels are no multiple of 4"):
        model(size=18)
    with pytest.raises(UserError, match="5 frames are no multiple of 2"):
        model(frames=5)
    with pytest.raises(UserError, match="takes 8 frames and the past has 4"):
        model(frames=8)
    with pytest.raises(UserError, match="got 4 frames, and 2 in the future"):
        model(frames=8, past=8, future=2)
    with pytest.raises(UserError, match="16 and 32"):
        MaskedAutoencoder(32, 4, 4, VideoViT(4, 1, 16, 24, 1, 2, patch=4))
    with pytest.raises(UserError, match="at least 2 tubelets; got 1"):
        model(frames=2).energy(data.x, data.y)
    with pytest.raises(UserError, match="paints no futures"):
        model().sample(data.x, 2)
    with pytest.raises(UserError, match="trains a MaskedAutoencoder; got Linear"):
        MaskedAutoencoding(Tubes()).loss(torch.nn.Linear(1, 1), data, moment())
