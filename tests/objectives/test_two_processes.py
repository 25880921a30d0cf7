"""Two processes that share a batch learn what one process with the whole batch learns: every loss, weight and buffer of three steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from joint_models import OUTPUTS, WIDTH, batch, moment, momentum, siamese, two_clips
from processes import Together
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vidssl.energy.joint import JointEnergy
from vidssl.nets.gather import gather
from vidssl.nets.heads import ClosedHead, NormHead
from vidssl.objectives.barlow import BarlowTwins
from vidssl.objectives.byol import BYOL
from vidssl.objectives.joint import JointObjective
from vidssl.objectives.moco import MoCo
from vidssl.objectives.sigreg import SIGReg
from vidssl.objectives.simclr import SimCLR
from vidssl.objectives.simsiam import SimSiam
from vidssl.objectives.swav import SwAV
from vidssl.objectives.vicreg import VICReg
from vidssl.types import Batch

STEPS, ROWS = 3, 8


def norm() -> NormHead:
    """A projector whose statistics are the batch's."""
    return NormHead(WIDTH, 16, OUTPUTS)


def guess() -> NormHead:
    """A predictor of the same kind."""
    return NormHead(OUTPUTS, 4, OUTPUTS)


METHODS: dict[str, Callable[[], tuple[JointEnergy, JointObjective]]] = {
    "simclr": lambda: (siamese(norm()), SimCLR(two_clips(3))),
    "moco": lambda: (momentum(norm()), MoCo(two_clips(3), OUTPUTS, queue=2 * ROWS)),
    "swav": lambda: (siamese(norm()), SwAV(two_clips(), OUTPUTS, prototypes=12, queue=10, freeze=1)),
    "simsiam": lambda: (siamese(ClosedHead(WIDTH, 16, OUTPUTS), guess()), SimSiam(two_clips())),
    "byol": lambda: (momentum(norm(), guess(), rises=True), BYOL(two_clips())),
    "barlow": lambda: (siamese(norm()), BarlowTwins(two_clips())),
    "vicreg": lambda: (siamese(norm()), VICReg(two_clips())),
    "sigreg": lambda: (siamese(norm()), SIGReg(two_clips(), slices=16)),
}
OPTIMISERS = {  # eps is far above rounding, which is all the gradient there is of a bias in front of batch statistics
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1, eps=1e-5),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
}
RUNS = [*((method, "sgd") for method in METHODS), ("swav", "adamw"), ("byol", "adamw")]
"""A step of SGD knows the size of a gradient, which AdamW hardly feels."""


class Step(nn.Module):
    """An energy and its objective as one module, as training wraps them."""

    def __init__(self, energy: JointEnergy, objective: JointObjective) -> None:
        super().__init__()
        self.energy, self.objective = energy, objective

    def forward(self, clips: Batch, step: int) -> Tensor:
        """The loss."""
        return self.objective.loss(self.energy, clips, moment(step, STEPS)).loss


def share(seed: int, rank: int, world: int) -> Batch:
    """This process's clips of a batch, as the loader deals them out."""
    return batch(ROWS, seed).map(lambda t: t[rank::world])


def run(method: str, optimiser: str, rank: int, world: int) -> dict[str, Any]:
    """Losses of three steps, weights and buffers after them, and how far the first layers went."""
    torch.manual_seed(0)
    step = Step(*METHODS[method]()).train()
    first = [step.energy.encoder.stem.weight, step.energy.projector.net[0].weight]
    start = [weight.detach().clone() for weight in first]
    trained = DistributedDataParallel(step) if world > 1 else step
    chosen = OPTIMISERS[optimiser]([p for p in step.parameters() if p.requires_grad])
    losses = []
    for i in range(STEPS):
        loss = trained(share(i, rank, world), i)
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        losses.append(loss.detach())
    moved = [(weight.detach() - s).abs().max() for weight, s in zip(first, start)]
    return {"losses": torch.stack(losses), "state": step.state_dict(), "moved": torch.stack(moved)}


def everything(rank: int, world: int) -> dict[str, Any]:
    """All runs, the views of one step, and rows that are gathered with their gradient."""
    torch.set_default_dtype(torch.float64)
    made = {f"{m} {o}": run(m, o, rank, world) for m, o in RUNS}
    clips = share(0, rank, world)
    made["views"] = two_clips()(clips, moment().generator)
    rows = clips.x.requires_grad_()
    made["rows"] = gather(rows)
    (made["rows"] * torch.arange(made["rows"].numel()).view_as(made["rows"]) * (rank + 1)).sum().backward()
    return {**made, "rows": made["rows"].detach(), "gradient": rows.grad}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What one process found, and what two found together; the one works while the two start."""
    together = Together(everything, tmp_path_factory.mktemp("together"))
    before = torch.get_default_dtype()
    try:
        alone = everything(0, 1)
    finally:
        torch.set_default_dtype(before)
    yield alone, together.results()


@pytest.mark.parametrize(("method", "optimiser"), RUNS)
def test_losses_weights_and_buffers_are_those_of_one_process(method: str, optimiser: str, runs: tuple) -> None:
    alone, together = runs[0][f"{method} {optimiser}"], [r[f"{method} {optimiser}"] for r in runs[1]]
    assert (alone["moved"] > 1e-4).all(), "equal weights would say little if none had moved"
    torch.testing.assert_close(torch.stack([r["losses"] for r in together]).mean(0), alone["losses"], rtol=1e-9, atol=1e-9)
    for found in together:
        torch.testing.assert_close(found["state"], alone["state"], rtol=1e-8, atol=1e-8)


def test_the_noise_of_views_is_the_joint_batchs(runs: tuple) -> None:
    alone, together = runs
    for rank, found in enumerate(together):
        torch.testing.assert_close(found["views"], alone["views"][:, rank::2], rtol=0, atol=1e-12)


def test_gathered_rows_are_the_joint_batch_and_their_gradient_is_summed(runs: tuple) -> None:
    alone, together = runs
    for rank, found in enumerate(together):
        assert torch.equal(found["rows"], alone["rows"])
        torch.testing.assert_close(found["gradient"], 3 * alone["gradient"][rank::2])
