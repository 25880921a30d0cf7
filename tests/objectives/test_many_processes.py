"""Several processes that share a batch learn what one with the whole batch learns: predictors with every kind of z, and the energies beside them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jepas import embedded
from models import clips, judged, model
from processes import Together
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vidssl.energy.base import Energy
from vidssl.nets.encoders import ChannelEncoder
from vidssl.nets.noise import noise_of
from vidssl.objectives.base import Objective
from vidssl.objectives.chains import LatentChains
from vidssl.objectives.divergence import ContrastiveDivergence
from vidssl.objectives.infonce import InfoNCE
from vidssl.objectives.jepa import JEPA
from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.relative import RelativeLimitedLatent
from vidssl.objectives.target_rate import TargetRate
from vidssl.types import Batch, Moment

STEPS, ROWS = 3, 4
Made = tuple[Energy, Objective]


def noisy() -> Made:
    """A predictor whose encoder is noisy by itself."""
    made = model("gaussian_learned")
    made.encoder = ChannelEncoder(4, 1, made.encoder.width, 1, sigma=0.3)
    return made, LimitedLatent(96, warmup=0)


def restarts() -> Made:
    """Code vectors of which every second step restarts some."""
    made = model("vq_slots")
    made.latent.book.restart = 0.95
    return made, LimitedLatent(96, warmup=0)


LATENTS = ["none", "gaussian_learned", "gaussian_fixed", "categorical", "vq_slots", "fsq", "lfq", "rvq", "quantised", "topk", "sparse", "sparse_variance", "best_of", "minimised",
           "exhaustive", "langevin", "refined", "fista", "irmae", "free_bits", "balance", "delta", "wae", "fixed_snr", "dropout", "erasure"]  # fmt: skip
CASES: dict[str, Callable[[], Made]] = {
    **{name: lambda name=name: (model(name), LimitedLatent(96, warmup=0)) for name in LATENTS},
    "noisy encoder": noisy,
    "restarts": restarts,
    "chains in z": lambda: (judged(), ContrastiveDivergence(LatentChains(steps=2, rate=0.05, temperature=1e-3), LimitedLatent(50.0, warmup=0))),
    "target rate": lambda: (model("gaussian_learned"), TargetRate(96, 3.0, warmup=0)),
    "relative": lambda: (model("gaussian_learned"), RelativeLimitedLatent(96, 2.0, warmup=0)),
    "infonce": lambda: (judged(), InfoNCE({"shuffled": 1.0, "ghost": 1.0, "frozen": 1.0, "drawn": 1.0}, LimitedLatent(96, warmup=0))),
    "jepa": lambda: (embedded("variance", "gaussian_learned"), JEPA(LimitedLatent(96, warmup=0))),
}
FOUR = ["wae", "erasure", "vq_slots", "infonce", "jepa", "noisy encoder"]
"""Also tried with four."""


class Step(nn.Module):
    """An energy and its objective as one module, as training wraps them."""

    def __init__(self, energy: Energy, objective: Objective) -> None:
        super().__init__()
        self.energy, self.objective = energy, objective

    def forward(self, batch: Batch, moment: Moment) -> Tensor:
        """The loss."""
        with noise_of(moment.generator):
            return self.objective.loss(self.energy, batch, moment).loss


def run(name: str, rank: int, world: int) -> dict[str, Any]:
    """Losses of three steps, and weights and buffers after them."""
    step = Step(*CASES[name]()).train()
    trained = DistributedDataParallel(step, find_unused_parameters=True) if world > 1 else step
    optimiser = torch.optim.SGD([p for p in step.parameters() if p.requires_grad], lr=0.02, momentum=0.9)
    start = {k: v.clone() for k, v in step.state_dict().items()}
    losses = []
    for i in range(STEPS):
        whole = Batch(*clips(ROWS, seed=i), torch.arange(ROWS))
        loss = trained(whole.map(lambda t: t[rank::world]), Moment(i + 50, 100, torch.Generator().manual_seed(i)))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(step.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.detach())
    state = step.state_dict()
    moved = max(float((state[k] - start[k]).abs().max()) for k in state if state[k].is_floating_point())
    return {"losses": torch.stack(losses), "state": state, "moved": moved}


def everything(rank: int, world: int) -> dict[str, Any]:
    """All cases, or of four processes a few."""
    return {name: run(name, rank, world) for name in (FOUR if world == 4 else CASES)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What one process found, what two found together, and what four did."""
    together = {world: Together(everything, tmp_path_factory.mktemp(f"together-{world}"), world) for world in (2, 4)}
    return {1: [everything(0, 1)], **{world: started.results() for world, started in together.items()}}


@pytest.mark.parametrize(("name", "world"), [*((name, 2) for name in CASES), *((name, 4) for name in FOUR)])
def test_losses_weights_and_buffers_are_those_of_one_process(name: str, world: int, runs: dict[int, list[dict[str, Any]]]) -> None:
    alone, together = runs[1][0][name], [found[name] for found in runs[world]]
    assert alone["moved"] > 1e-4, "equal weights would say little if none had moved"
    torch.testing.assert_close(torch.stack([found["losses"] for found in together]).mean(0), alone["losses"], rtol=1e-5, atol=1e-5)
    for found in together:
        torch.testing.assert_close(found["state"], alone["state"], rtol=1e-4, atol=1e-5)


def test_every_objective_is_compared_so_somewhere() -> None:
    """In one of the files that compare processes; DeeperCluster's is beside its callback."""
    here = Path(__file__).parent
    files = [*(path for path in here.glob("test_*.py") if "Together(" in path.read_text()), here.parent / "training" / "test_recluster.py"]
    text = "".join(path.read_text() for path in files)
    import vidssl.objectives as room

    names = set()
    for path in Path(room.__path__[0]).glob("*.py"):
        module = __import__(f"vidssl.objectives.{path.stem}", fromlist=["x"])
        names |= {n for n, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Objective) and not inspect.isabstract(kind) and kind.__module__ == module.__name__}
    assert {name for name in names if f"{name}(" not in text} == SAME


SAME = {"ErrorEncoding", "RelativeTargetRate"}
"""The loss of another one that is compared, by inheritance, with a check or another weight of each clip."""
