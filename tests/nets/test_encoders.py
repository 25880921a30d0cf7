"""Encoders: what limits their features."""

from __future__ import annotations

import pytest
import torch

from vidssl.nets.encoders import ChannelEncoder


def test_a_channel_has_features_of_power_one_and_noise_of_power_sigma_squared() -> None:
    torch.manual_seed(0)
    encoder, clip = ChannelEncoder(3, 1, 16, 1, sigma=3.0), torch.rand(64, 3, 1, 16, 16)
    with torch.no_grad():
        told, drawn, again = encoder.eval()(clip), encoder.train()(clip), encoder.train()(clip)
    torch.testing.assert_close(told.square().mean((1, 2, 3)), torch.ones(64), rtol=1e-3, atol=0)
    assert float((drawn - told).var()) == pytest.approx(9.0, rel=0.05) and float((drawn - told).mean()) == pytest.approx(0, abs=0.1)
    assert float(torch.corrcoef(torch.stack(((drawn - told).flatten(), (again - told).flatten())))[0, 1]) == pytest.approx(0, abs=0.03)
    assert torch.equal(encoder.eval()(clip), told)


def test_no_weight_can_raise_a_channels_power() -> None:
    encoder, clip = ChannelEncoder(3, 1, 16, 1), torch.rand(4, 3, 1, 16, 16)
    before = encoder.eval()(clip).square().mean()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.mul_(10)
    torch.testing.assert_close(encoder(clip).square().mean(), before, rtol=1e-3, atol=0)
