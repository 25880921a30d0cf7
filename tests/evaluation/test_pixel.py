"""Pixel scores against other implementations and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_squared_error
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchvision.transforms.functional import gaussian_blur

from vidssl.evaluation import pixel
from vidssl.evaluation.pixel import gradient_energy, psnr, rounded, squared_error, ssim


def clips(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_agree_with_torchmetrics_frame_by_frame(channels: int) -> None:
    made, truth = clips(2, 3, 4, channels, 24, 20), clips(3, 4, channels, 24, 20, seed=1)
    p, s = psnr(made, truth), ssim(made, truth)
    assert p.shape == s.shape == (2, 3, 4)
    for n, b, t in np.ndindex(2, 3, 4):
        a, y = rounded(made[n, b, t])[None], rounded(truth[b, t])[None]
        assert p[n, b, t] == pytest.approx(float(peak_signal_noise_ratio(a, y, data_range=1.0)), abs=1e-4)
        assert s[n, b, t] == pytest.approx(float(structural_similarity_index_measure(a, y, data_range=1.0)), abs=1e-5)


def test_ssim_by_its_definition() -> None:
    """Wang et al. 2004, eq. 13, on frames reflected at their borders."""
    a, b = (rounded(clips(1, 1, 1, 16, 18, seed=s))[0, 0, 0].double().numpy() for s in (3, 4))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    made, truth = (torch.tensor(v, dtype=torch.float32)[None, None] for v in (a, b))
    a, b = np.pad(a, 5, "reflect"), np.pad(b, 5, "reflect")
    for i in range(16):
        for j in range(18):
            u, v = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mu, mv = (window * u).sum(), (window * v).sum()
            su, sv, uv = (window * u * u).sum() - mu**2, (window * v * v).sum() - mv**2, (window * u * v).sum() - mu * mv
            values.append((2 * mu * mv + 1e-4) * (2 * uv + 9e-4) / ((mu**2 + mv**2 + 1e-4) * (su + sv + 9e-4)))
    assert float(ssim(made, truth)) == pytest.approx(np.mean(values), abs=1e-5)


def test_ssim_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    made, truth = clips(3, 2, 2, 1, 16, 16), clips(2, 2, 1, 16, 16, seed=1)
    whole = ssim(made, truth)
    monkeypatch.setattr(pixel, "PIXELS", 5 * 256)
    assert torch.allclose(ssim(made, truth), whole, atol=1e-6)


def test_equal_frames_count_60_db_and_frames_are_averaged_after_the_logarithm() -> None:
    truth = torch.zeros(1, 2, 1, 16, 16)
    made = truth.clone()
    made[:, 1] = 0.2  # 51 of 255 exactly
    db = psnr(made, truth)[0]
    assert db[0] == pytest.approx(60.0, abs=1e-4) and db[1] == pytest.approx(-10 * np.log10(0.04), abs=1e-4)
    assert db.mean() != pytest.approx(-10 * np.log10(0.02), abs=5)


def test_pixels_are_rounded_as_a_file_would() -> None:
    truth = torch.full((1, 1, 1, 16, 16), 100 / 255)
    assert float(psnr(truth + 0.4 / 255, truth)) == pytest.approx(60.0, abs=1e-4)
    assert float(psnr(truth + 0.6 / 255, truth)) == pytest.approx(20 * np.log10(255), abs=1e-3)
    assert float(psnr(truth + 9, truth)) == pytest.approx(float(psnr(torch.ones_like(truth), truth)))


def test_distortion_is_summed_over_the_clip() -> None:
    made, truth = clips(2, 3, 4, 1, 8, 8), clips(3, 4, 1, 8, 8, seed=1)
    d = squared_error(made, truth)
    want = mean_squared_error(rounded(truth[1]).flatten().numpy(), rounded(made[0, 1]).flatten().numpy()) * 4 * 64
    assert d.shape == (2, 3) and float(d[0, 1]) == pytest.approx(want, rel=1e-5)


def test_blur_lowers_gradient_energy_and_so_does_a_mean_of_two_places() -> None:
    video = torch.zeros(1, 1, 1, 32, 32)
    video[..., 4:9, 4:9] = 1
    elsewhere = video.flip(-1)
    assert gradient_energy(gaussian_blur(video[0], [9, 9], [2.0, 2.0])[None]) < 0.3 * gradient_energy(video)
    assert float(gradient_energy((video + elsewhere) / 2)) == pytest.approx(0.5 * float(gradient_energy(video)), rel=1e-5)
