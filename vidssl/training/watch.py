"""Futures in TensorBoard, as video."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch


class Watch(L.Callback):
    """Shows in TensorBoard what the model thinks comes next: past, truth and futures, as video.

    It looks and never touches: draws have their own generator, gradients are off.
    """

    def __init__(self, clips: int = 4, futures: int = 4) -> None:
        self.clips, self.futures = clips, futures
        self.batch: Any = None

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first clips of the first batch."""
        if self.batch is None and batch_idx == 0:
            self.batch = batch.map(lambda t: t[: self.clips])

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write one video: a row per clip, the truth first, then futures; the past runs in all of them."""
        if self.batch is None or trainer.logger is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        x, y = self.batch.x, self.batch.y
        generator = torch.Generator(pl_module.device).manual_seed(0)
        futures = pl_module.energy.sample(x, self.futures, generator)
        columns = torch.cat((y[None], futures))
        whole = torch.cat((x.expand(len(columns), *x.shape), columns), 2)  # [1 + N, B, T, C, H, W]
        wall = whole.permute(2, 3, 1, 4, 0, 5).flatten(4, 5).flatten(2, 3)  # [T, C, B * H, (1 + N) * W]
        trainer.logger.experiment.add_video("truth | futures", wall[None].mul(255).byte().cpu(), trainer.global_step, fps=5)
