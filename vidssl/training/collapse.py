"""The collapse watch: is there still anything in the embedding? Logged at every validation, and said once when there is not and it does not come back.

The embedding's spread and effective rank (:mod:`vidssl.nets.collapse`) fall when it collapses, completely or into few directions. How
large they are in health depends on the head: with a closing batch normalisation the spread of an untrained embedding is 1, without any normalisation 0.08. So a
fall is measured from an untrained network of the same architecture, and clips are few enough that the rank is one of the same number of rows.
"""

from __future__ import annotations

import math
import warnings

import lightning as L
import torch
from torch import Tensor

from vidssl.energy.base import Energy
from vidssl.energy.joint import JointEnergy, pool
from vidssl.nets.collapse import effective_rank, lidar, mean_cosine, spread
from vidssl.objectives.base import Objective
from vidssl.objectives.joint import JointObjective
from vidssl.training.look import Look, Rows, embedding
from vidssl.types import Batch

SPREAD, RANK, DIRECTIONS = 0.2, 0.5, 3.0
"""Collapsed: less than this share of an untrained embedding's spread; or less than this share of its rank, and fewer than this many directions.

Measured on bounce after 60 to 100 steps: eight of its recipes kept a third of the spread and 8 directions or more. VICReg without its variance fell to 0.16 of the
spread; a small SimSiam without a predictor, at a learning rate of 1e-2, to 3 directions or fewer with each of four seeds, where the intact one kept 4 to 8.
Under a closing batch normalisation and at 1e-3 it keeps 6 of 88 directions for 220 steps, which is not said to be a collapse.
"""
COMES_BACK = 1.1
"""An embedding that was found collapsed and has grown by this factor since the last look is left in peace: those that learn clusters begin with few."""
STEPS = 50
"""Before so many steps nothing is said: running statistics still remember their beginning (0.9^50 = 0.005 of it) and the embedding looks small."""
SEED = 1 << 42
SLOW = "start with more momentum, so that the slow copy is slower, or lower the learning rate"
ADVICE = {
    "SimSiam": "lower the learning rate, or end the projector in a normalisation (ClosedHead)",
    "BYOL": SLOW,
    "SimCLR": "lower the temperature, or raise batch_size for more negatives",
    "MoCo": "lower the temperature, lengthen the queue, or give the slow copy more momentum",
    "SwAV": "lower epsilon (0.03), freeze the prototypes for longer, or shorten the queue",
    "DeeperCluster": "cluster anew more often (every), or into fewer clusters",
    "BarlowTwins": "raise redundancy, its weight, or lower the learning rate",
    "VICReg": "raise variance, its weight, and covariance where only the rank fell",
    "VarianceCovarianceJEPA": "raise variance, its weight, and covariance where only the rank fell",
    "SIGReg": "raise weight, that of the distribution's distance",
    "JEPA": "raise variance and covariance, its weights, or the momentum of a slow copy",
    "RegionPrediction": SLOW,
}
"""What to change, by the objective."""
OTHERWISE = "lower the learning rate, or weigh what keeps embeddings apart more"


class CollapseWatch(Look):
    """Logs spread, rank, mean cosine and, where the objective compares views, LiDAR of the encoder's pooled features and of the embedding.

    Args:
        clips: validation clips to look at.
        views: of each, for LiDAR: at least so many are drawn as the objective draws them. Below 2 there is none.
    """

    name = "collapse"

    def __init__(self, clips: int = 256, views: int = 4) -> None:
        super().__init__(clips)
        self.views, self.warned = views, False
        self.before: float | None = None  # health at the last look that counted

    def rows(self, trainer: L.Trainer, pl_module: L.LightningModule, energy: Energy, batch: Batch, batch_idx: int) -> Rows:
        """Features and embeddings of the clips, and of some views of them."""
        seen = {"features": pool(energy.encode(batch.x)), "embedding": embedding(energy, batch)}
        if self.views > 1 and isinstance(pl_module.objective, JointObjective) and isinstance(energy, JointEnergy):
            draw, noise = pl_module.objective.views, torch.Generator(pl_module.device).manual_seed(SEED + batch_idx)
            drawn = [view for _ in range(-(-self.views // draw.count)) for view in draw(batch, noise)]
            maps = [pool(energy.encoder(view)) for view in drawn]
            seen |= {"features_views": torch.stack(maps, 1), "embedding_views": torch.stack([energy.projector(h) for h in maps], 1)}
        return seen

    def measure(self, rows: Rows) -> dict[str, float]:
        """The four numbers of both."""
        found: dict[str, Tensor] = {}
        for what in ("features", "embedding"):
            found |= {f"{what}_spread": spread(rows[what]), f"{what}_rank": effective_rank(rows[what]), f"{what}_cosine": mean_cosine(rows[what])}
            if f"{what}_views" in rows:
                found[f"{what}_lidar"] = lidar(rows[f"{what}_views"])
        return {name: float(value) for name, value in found.items()}

    def judge(self, trainer: L.Trainer, pl_module: L.LightningModule, found: dict[str, float]) -> None:
        """Say once that the embedding has collapsed for two looks in a row and does not come back, and what to change."""
        if self.warned or trainer.global_step < STEPS or not trainer.is_global_zero:
            return
        assert self.reference is not None
        now, start = ((of["embedding_spread"], of["embedding_rank"]) for of in (found, {"embedding_spread": 0.1, "embedding_rank": 4.0} | self.reference))
        before, self.before = self.before, health(now, start)
        if before is not None and max(before, self.before) < 1 and self.before <= COMES_BACK * before:
            self.warned = True
            warnings.warn(
                f"the embedding has collapsed by step {trainer.global_step}: its spread is {now[0]:.3f} and its rank {now[1]:.1f}; untrained they "
                f"were {start[0]:.3f} and {start[1]:.1f}: {advice(pl_module.objective, pl_module.energy)}",
                stacklevel=2,
            )


def health(now: tuple[float, float], start: tuple[float, float]) -> float:
    """Of an embedding of this spread and rank, beside those of an untrained one: below 1 it has collapsed; 0 for numbers that are none."""
    found = min(now[0] / (SPREAD * start[0]), now[1] / min(DIRECTIONS, RANK * start[1]))
    return found if all(map(math.isfinite, now)) else 0.0


def advice(objective: Objective, energy: Energy) -> str:
    """What to change."""
    names = [kind.__name__ for kind in type(objective).__mro__]
    if "SimSiam" in names and isinstance(energy, JointEnergy) and energy.predictor is None:
        return f"give the energy a predictor, without which {type(objective).__name__} has nothing to keep embeddings apart"
    return next((ADVICE[name] for name in names if name in ADVICE), OTHERWISE)
