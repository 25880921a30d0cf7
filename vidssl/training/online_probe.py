"""An online probe: what the nearest validation clips say about each, label by label, while the model trains."""

from __future__ import annotations

import lightning as L

from vidssl.energy.base import Energy
from vidssl.energy.joint import pool
from vidssl.nets.knn import neighbour_votes
from vidssl.training.look import Look, Rows
from vidssl.types import Batch

K = 20


class OnlineProbe(Look):
    """Accuracy of weighted nearest neighbours among validation clips, where their labels are known: a world's, or folders of classes.

    Each clip is told by the 20 nearest others, or all there are; clips of its own video are none of them. With few clips this is a rough number, to see
    where a run goes; ``vidssl probe`` measures.

    Args:
        clips: validation clips to look at.
    """

    name = "probe"

    def __init__(self, clips: int = 1024) -> None:
        super().__init__(clips)
        self.classes: dict[str, int] = {}

    def rows(self, trainer: L.Trainer, pl_module: L.LightningModule, energy: Energy, batch: Batch, batch_idx: int) -> Rows:
        """Features and labels of the clips."""
        features = pool(energy.encode(batch.x))
        if trainer.datamodule is None:
            return {"features": features}
        clips = trainer.datamodule.clips("val")
        self.classes = clips.classes
        known = {"recording": clips.recording(batch), **clips.labels(batch)}
        return {"features": features, **known}

    def measure(self, rows: Rows) -> dict[str, float]:
        """Accuracy under each label, over clips that have it."""
        found = {}
        for name, classes in self.classes.items():
            known = rows[name] >= 0
            x, y, group = (rows[key][known] for key in ("features", name, "recording"))
            if len(x) > 1:
                votes = neighbour_votes(x, x, y, classes, min(K, len(x) - 1), apart=(group, group))
                found[f"{name}_knn"] = float((votes.argmax(1) == y).double().mean())
        return found
