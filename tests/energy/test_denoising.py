"""The denoiser: in the linear Gaussian case, where the best one is known, its residual is sigma^2 times the score."""

from __future__ import annotations

import math

import pytest
import torch
from models import clips
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vidssl.data.transforms import Augment
from vidssl.energy.denoising import DenoisingAutoencoder
from vidssl.energy.predictive import distortion
from vidssl.nets.decoders import Decoder, PaintDecoder
from vidssl.nets.encoders import ClipEncoder, Encoder
from vidssl.nets.masks import Tubes
from vidssl.nets.noise import normal
from vidssl.objectives.denoising import Denoising
from vidssl.spec import build, spec_of
from vidssl.types import Batch, Moment, UserError

SIGMA = 0.7
VARIANCES = torch.tensor([4.0, 1.0, 0.25, 0.04], dtype=torch.float64)


class LinearEncoder(Encoder):
    """The four pixels of one frame as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = 1, 1, 4, 2

    def forward(self, clip: Tensor) -> Tensor:
        return clip.reshape(-1, 4, 1, 1)


class LinearDecoder(Decoder):
    """Any linear map of them."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = 1, 1, 4, 2
        self.map = nn.Parameter(torch.eye(4, dtype=torch.float64))

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        return (features.flatten(1) @ self.map.T).view(-1, 1, 1, 2, 2)


def linear() -> tuple[DenoisingAutoencoder, Tensor, Tensor]:
    """The energy, the covariance of clips, and eight clips with exactly that covariance and no mean."""
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    rows = torch.cat((turn * (4 * VARIANCES).sqrt(), -turn * (4 * VARIANCES).sqrt()), 1).T
    return DenoisingAutoencoder(2, 1, 1, LinearEncoder(), LinearDecoder(), SIGMA), turn @ torch.diag(VARIANCES) @ turn.T, rows


def design(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Every clip with every one of eight noises of unit covariance: expectations are sums."""
    noise = 2 * torch.cat((torch.eye(4), -torch.eye(4))).double()
    clip, noise = rows.repeat_interleave(8, 0), noise.repeat(8, 1)
    torch.testing.assert_close(clip.T @ noise / 64, torch.zeros(4, 4).double())
    torch.testing.assert_close(noise.T @ noise / 64, torch.eye(4).double())
    return clip.view(-1, 1, 1, 2, 2), noise.view(-1, 1, 1, 2, 2)


def trained() -> tuple[DenoisingAutoencoder, Tensor]:
    """The best linear denoiser, found by descent on the expected loss, and the covariance."""
    energy, covariance, rows = linear()
    clip, noise = design(rows)
    search = torch.optim.LBFGS(energy.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = (energy.reconstruct(clip + SIGMA * noise) - clip).square().sum((1, 2, 3, 4)).mean()
        value.backward()
        return value

    search.step(loss)
    return energy, covariance


def test_the_best_denoiser_is_the_wiener_filter_and_its_residual_the_score() -> None:
    energy, covariance = trained()
    noisy = covariance + SIGMA**2 * torch.eye(4).double()
    torch.testing.assert_close(energy.decoder.map.detach(), covariance @ noisy.inverse(), atol=1e-6, rtol=0)
    clip = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    density = MultivariateNormal(torch.zeros(4).double(), noisy)
    score = torch.autograd.grad(density.log_prob(clip).sum(), clip)[0]
    torch.testing.assert_close(energy.score(clip.detach().view(5, 1, 1, 2, 2)).flatten(1).detach(), score, atol=1e-5, rtol=0)


def test_the_energy_is_sigma_to_the_fourth_times_the_scores_square_and_so_flat_at_the_mode() -> None:
    energy, covariance = trained()
    noisy = covariance + SIGMA**2 * torch.eye(4).double()
    x, y = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    each = torch.stack([SIGMA**4 * (c @ noisy.inverse()).square().sum(1) for c in (x, y)])  # two windows of one frame
    frames = [c.view(5, 1, 1, 2, 2) for c in (x, y)]
    torch.testing.assert_close(energy.energy(*frames).double().detach(), each.mean(0), rtol=1e-5, atol=1e-5)
    zero = torch.zeros_like(frames[0])
    assert energy.energy(zero, zero).abs().max() == 0


def test_the_step_has_the_gradient_of_the_expected_loss() -> None:
    """Over many draws of its own noise the objective descends what `trained` descended: at the Wiener filter its gradient is 0 within error."""
    energy, _ = trained()
    _, _, rows = linear()
    energy.decoder.map.grad = None
    clip = rows.repeat(4000, 1).view(-1, 1, 1, 2, 2)
    data, n = Batch(clip, clip[:, :0], torch.arange(len(clip))), len(clip)
    Denoising().loss(energy, data, Moment(0, 1, torch.Generator().manual_seed(0))).loss.backward()
    assert energy.decoder.map.grad.abs().max() < 0.05
    with torch.no_grad():
        energy.decoder.map.copy_(torch.eye(4))
    energy.decoder.map.grad = None
    Denoising().loss(energy, data, Moment(0, 1, torch.Generator().manual_seed(0))).loss.backward()
    expected = 2 * SIGMA**2 * torch.eye(4).double() / 4  # of the identity: the noise is left
    torch.testing.assert_close(energy.decoder.map.grad, expected, atol=10 / math.sqrt(n), rtol=0)


def model(sigma: float = 0.3, frames: int = 4, past: int = 4) -> DenoisingAutoencoder:
    torch.manual_seed(0)
    energy = DenoisingAutoencoder(16, past, 4, ClipEncoder(4, 1, 16, 1), PaintDecoder(frames, 1, 16, frame_width=8), sigma)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return energy.eval()


def batch(n: int = 3) -> Batch:
    x, y = clips(n, 4, 4, 1, 16)
    return Batch(x, y, torch.arange(n))


def moment() -> Moment:
    return Moment(3, 10, torch.Generator().manual_seed(2))


def test_the_energy_is_the_mean_over_windows_of_the_squared_residual() -> None:
    energy, data = model(), batch()
    clip = torch.cat((data.x, data.y), 1)
    windows = [clip[:, start : start + 4] for start in range(5)]
    each = [(energy.decoder(energy.encoder(w), w[:, -1]) - w).square().sum((1, 2, 3, 4)) for w in windows]
    torch.testing.assert_close(energy.energy(data.x, data.y), torch.stack(each).mean(0))
    assert torch.equal(energy.free_energy(data.x, data.y), energy.energy(data.x, data.y))


def test_the_loss_is_the_squared_error_of_the_clean_window() -> None:
    energy, data = model(), batch()
    alone = Batch(data.x, data.y[:, :0], data.key)
    out = Denoising().loss(energy, alone, moment())
    noisy = data.x + 0.3 * normal((3, 4, 1, 16, 16), data.x, moment().generator)
    assert noisy.min() < 0 and noisy.max() > 1, "noise is not clamped"
    torch.testing.assert_close(out.loss, (energy.reconstruct(noisy) - data.x).square().mean())
    torch.testing.assert_close(out.logs["corrupted"], distortion(data.x, noisy).mean())


def test_tubes_are_grey_in_all_frames_and_the_rest_is_noisy() -> None:
    energy, data = model(), batch()
    made = Denoising(Tubes(0.5)).corrupt(energy, data.x, moment().generator)
    grey = (made == 0.5).view(3, 4, 4, 4, 4, 4)  # clips, frames, rows of places, pixels, columns of places, pixels
    whole = grey.all(5).all(3).all(1)
    assert torch.equal(whole.sum((1, 2)), torch.full((3,), 8)) and grey.sum() == 3 * 8 * 4 * 16
    plain = Denoising().corrupt(energy, data.x, moment().generator)
    assert torch.equal(made[made != 0.5], plain[made != 0.5])
    _, hidden = Tubes(0.5)(data.x, (1, 4, 4), advanced(energy, data))
    assert [w.flatten().nonzero().flatten().tolist() for w in whole] == hidden.tolist()


def advanced(energy: DenoisingAutoencoder, data: Batch) -> torch.Generator:
    """The step's generator after the noise of the pixels."""
    g = moment().generator
    normal(tuple(data.x.shape), data.x, g)
    return g


def test_it_is_written_down_and_built_again() -> None:
    energy, data = model(), batch()
    again = build(spec_of(energy))
    again.load_state_dict(energy.state_dict())
    torch.testing.assert_close(again.eval().energy(data.x, data.y), energy.energy(data.x, data.y))
    assert energy.encode(data.x).shape == (3, 16, 4, 4) and not energy.paints


def test_what_does_not_fit_is_refused() -> None:
    data = batch()
    with pytest.raises(UserError, match="4 and 3"):
        model(frames=3)
    with pytest.raises(UserError, match="takes 4 frames and the past has 2"):
        model(past=2)
    with pytest.raises(UserError, match="at least 0; got -1"):
        model(sigma=-1.0)
    with pytest.raises(UserError, match="sigma 0 and no mask"):
        Denoising().loss(model(sigma=0.0), data, moment())
    with pytest.raises(UserError, match="this model has sigma 0"):
        model(sigma=0.0).score(data.x)
    with pytest.raises(UserError, match="share 0.99 hides 16 of 16 places"):
        Denoising(Tubes(0.99)).loss(model(), data, moment())
    with pytest.raises(UserError, match="trains a DenoisingAutoencoder; got Linear"):
        Denoising().loss(torch.nn.Linear(1, 1), data, moment())
    with pytest.raises(UserError, match="got 2: take them away"):
        Denoising(augment=Augment(views=2))
    with pytest.raises(UserError, match="paints no futures"):
        model().sample(data.x, 2)
