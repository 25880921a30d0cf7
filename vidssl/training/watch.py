"""Futures in TensorBoard, as video."""

from __future__ import annotations

import io

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary

from vidssl.render import Scene, film
from vidssl.training.sharded import Sharded
from vidssl.types import Batch, to_uint8


class Watch(L.Callback):
    """Shows in TensorBoard what the model thinks comes next: a film for each of some clips, the truth beside the futures.

    It looks and never touches: its draws have a generator of their own, and are the same at every validation.

    Args:
        clips: how many, the first of the validation split.
        futures: of each.
    """

    def __init__(self, clips: int = 4, futures: int = 5) -> None:
        self.clips, self.futures = clips, futures
        self.batch: Batch | None = None

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first clips of the first batch."""
        if self.batch is None and batch_idx == 0:
            self.batch = batch.map(lambda tensor: tensor[: self.clips])

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the films; the averaged weights are still in the model."""
        shows = trainer.is_global_zero
        if self.batch is None or not pl_module.energy.paints or trainer.sanity_checking or not (shows or isinstance(trainer.strategy, Sharded)):
            return
        if not isinstance(trainer.logger, TensorBoardLogger):
            return
        generator = torch.Generator(pl_module.device).manual_seed(0)
        drawn = pl_module(lambda: pl_module.energy.sample(self.batch.x, self.futures, generator))
        if not shows:
            return  # it has only lent its share of the weights
        x, y, futures = (to_uint8(video).cpu().numpy() for video in (self.batch.x, self.batch.y, drawn))
        for i in range(len(x)):
            shown = film(Scene(f"clip {i}", x[i], futures[:, i], y[i]))
            writer = trainer.logger.experiment.file_writer
            writer.add_summary(Summary(value=[Summary.Value(tag=f"futures/{i}", image=gif(shown))]), trainer.global_step)


def gif(frames: np.ndarray, fps: float = 6) -> Summary.Image:
    """A film ``[T, 3, H, W]`` uint8 as TensorBoard keeps it; its own writer needs one more package for this."""
    pictures = [Image.fromarray(frame.transpose(1, 2, 0)).quantize(256, dither=Image.Dither.NONE) for frame in frames]
    data = io.BytesIO()
    pictures[0].save(data, "GIF", save_all=True, append_images=pictures[1:], loop=0, optimize=False, duration=round(1000 / fps))
    return Summary.Image(height=frames.shape[2], width=frames.shape[3], colorspace=3, encoded_image_string=data.getvalue())
