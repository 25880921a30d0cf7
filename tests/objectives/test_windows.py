"""Windows, noise and masks do not know how many processes draw them: two that share a batch have the loss and the gradient of one with all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from models import clips
from processes import Together

from vidssl.data.transforms import Augment
from vidssl.data.views import PastAndFuture
from vidssl.energy.base import Energy
from vidssl.energy.denoising import DenoisingAutoencoder
from vidssl.energy.joint import SiameseJoint
from vidssl.energy.masked import MaskedAutoencoder
from vidssl.energy.regions import RegionEnergy
from vidssl.nets.decoders import PaintDecoder
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.heads import NormHead
from vidssl.nets.masks import Blocks, Tubes
from vidssl.nets.vit import VideoViT
from vidssl.objectives.base import Objective
from vidssl.objectives.denoising import Denoising
from vidssl.objectives.masked import MaskedAutoencoding
from vidssl.objectives.regions import RegionPrediction
from vidssl.objectives.vcjepa import VarianceCovarianceJEPA
from vidssl.types import Batch, Moment


def vit() -> VideoViT:
    return VideoViT(4, 1, 16, 24, 1, 2, patch=4, tubelet=2)


def changes() -> Augment:
    return Augment(crop=0.7, brightness=0.3)


METHODS: dict[str, Callable[[], tuple[Energy, Objective]]] = {
    "masked": lambda: (MaskedAutoencoder(16, 4, 4, vit(), 12, 1, 2), MaskedAutoencoding(Tubes(0.75), changes())),
    "regions": lambda: (RegionEnergy(16, 4, 4, vit(), 12, 1, 2, momentum=0.9), RegionPrediction([Blocks(8, 0.15, 0.5), Blocks(2, 0.7, 0.75)])),
    "denoising": lambda: (DenoisingAutoencoder(16, 4, 4, ClipEncoder(4, 1, 16, 1), PaintDecoder(4, 1, 16, frame_width=8), 0.3), Denoising(Tubes(0.5))),
    "vcjepa": lambda: (
        SiameseJoint(16, 4, 4, ClipEncoder(4, 1, 16, 1), NormHead(16, 12, 6), NormHead(6, 12, 6)),
        VarianceCovarianceJEPA(PastAndFuture(4, changes())),
    ),
}


def everything(rank: int, world: int) -> dict[str, Any]:
    """Loss, gradients and weights of one step of each method from this process's rows."""
    x, y = clips(8, 4, 4, 1, 16)
    mine, made = Batch(x, y, torch.arange(8)).map(lambda t: t[rank::world]), {}
    for name, make in METHODS.items():
        torch.manual_seed(0)
        energy, objective = make()
        with torch.no_grad():
            for parameter in energy.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        loss = objective.loss(energy.train(), mine, Moment(3, 10, torch.Generator().manual_seed(5))).loss
        loss.backward()
        gradients = {k: p.grad for k, p in energy.named_parameters() if p.grad is not None}
        made[name] = {"loss": loss.detach(), "gradients": gradients, "state": energy.state_dict()}
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What two processes made, and what one did."""
    together = Together(everything, tmp_path_factory.mktemp("together"))
    alone = everything(0, 1)
    return together.results(), alone


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_have_the_loss_and_gradient_of_one(name: str, runs: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    (first, second), alone = [run[name] for run in runs[0]], runs[1][name]
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, alone["loss"], rtol=1e-5, atol=0)
    assert alone["gradients"].keys() == first["gradients"].keys() and alone["gradients"]
    for key, gradient in alone["gradients"].items():
        torch.testing.assert_close((first["gradients"][key] + second["gradients"][key]) / 2, gradient, rtol=1e-3, atol=1e-5)
    for key, value in alone["state"].items():
        torch.testing.assert_close(first["state"][key], value, rtol=1e-5, atol=1e-6)


def test_an_augmented_window_stays_in_range() -> None:
    x, y = clips(8, 4, 4, 1, 16)
    made = MaskedAutoencoding(Tubes(0.75), Augment(brightness=1.0)).window(Batch(x, y, torch.arange(8)), 4, torch.Generator().manual_seed(0))
    assert made.shape == (8, 4, 1, 16, 16) and made.min() >= 0 and made.max() == 1
