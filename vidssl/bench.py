"""How fast training is, and which network the default should be: measured, not chosen by taste.

Networks are compared at equal CPU minutes, since what a user has is time. Each candidate trains on the same clips of
bounce with the same latent and objective; only the predictor differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vidssl.data.module import WorldClips
from vidssl.data.worlds.base import TEST_SEED
from vidssl.data.worlds.bounce import Bounce
from vidssl.energy.base import Energy
from vidssl.energy.predictive import PixelEnergy
from vidssl.evaluation.pixel import psnr, ssim
from vidssl.latents.gaussian import GaussianLearned
from vidssl.nets.decoders import CopyDecoder
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.predictors import AttentionPredictor, MixPredictor, Predictor, UNetPredictor
from vidssl.objectives.base import Objective, Reclustered
from vidssl.objectives.limited import LimitedLatent
from vidssl.training.budget import train_for
from vidssl.types import Batch, Moment

Z, CLIPS, TESTS, FUTURES, BATCH = 16, 12_000, 64, 16, 16
CANDIDATES: dict[str, tuple[int, float, Callable[[int], Predictor]]] = {
    "mix": (64, 3e-3, lambda width: MixPredictor(width, Z, 5)),
    "unet": (48, 3e-3, lambda width: UNetPredictor(width, Z, 4)),
    "attention": (64, 2e-3, lambda width: AttentionPredictor(width, Z, 4, 16)),
}
"""Width, learning rate and predictor: large-kernel blocks at 16x16; a U-Net between 16x16 and 8x8; self-attention at 16x16."""


def candidate(name: str) -> PixelEnergy:
    """The model of a candidate for bounce at 64 pixels, 5 past and 10 future frames."""
    width, _, predictor = CANDIDATES[name]
    return PixelEnergy(
        size=64,
        encoder=ClipEncoder(5, 1, width, 3),
        target_encoder=ClipEncoder(15, 1, width, 2),
        latent=GaussianLearned(width, Z),
        predictor=predictor(width),
        decoder=CopyDecoder(10, 1, width, frame_width=16),
        price=0.4,
    )


def bench_backbones(
    minutes: float,
    seeds: list[int],
    names: list[str] | None = None,
    mnist: str | None = None,
    report: Callable[[str, float], None] = lambda what, share: None,
) -> list[dict[str, Any]]:
    """A row per candidate and seed after `minutes` CPU minutes of training on one thread.

    Columns: best-of-16 and mean PSNR (dB) and SSIM over 64 test clips, 16 futures each, the best chosen per clip and metric by its
    mean over frames; ``spread``, standard deviation of the futures per pixel; clips per CPU second; parameters in millions.
    `report` hears what is trained and the share of it that is done.
    """
    torch.set_num_threads(1)
    world = Bounce(mnist_root=mnist)
    train = WorldClips(world, 0, CLIPS).batch(0, list(range(CLIPS)))
    test = WorldClips(world, TEST_SEED, TESTS).batch(0, list(range(TESTS))).unit()
    return [_row(name, seed, minutes, train, test, report) for seed in seeds for name in names or list(CANDIDATES)]


@torch.no_grad()
def _row(
    name: str, seed: int, minutes: float, train: Batch, test: Batch, report: Callable[[str, float], None]
) -> dict[str, Any]:
    torch.manual_seed(seed)
    energy = candidate(name)

    def batches() -> Iterator[Batch]:
        order = torch.Generator().manual_seed(seed)
        while True:
            for rows in torch.randperm(CLIPS, generator=order).split(BATCH):
                yield Batch(train.x[rows], train.y[rows], train.key[rows])

    with torch.enable_grad():
        heard = partial(report, f"training {name}, seed {seed}")
        spent = train_for(60 * minutes, energy, LimitedLatent(200.0, 0.3), batches(), CANDIDATES[name][1], seed=seed, report=heard)
    made = spent.energy.sample(test.x, FUTURES, torch.Generator().manual_seed(0))
    p, s = psnr(made, test.y).mean(-1), ssim(made, test.y).mean(-1)
    return {
        "network": name,
        "seed": seed,
        "minutes": minutes,
        "parameters_M": sum(q.numel() for q in energy.parameters()) / 1e6,
        "clips_per_s": spent.clips_per_second,
        "clips": spent.clips,
        "best16_psnr": float(p.max(0).values.mean()),
        "best16_ssim": float(s.max(0).values.mean()),
        "mean_psnr": float(p.mean()),
        "mean_ssim": float(s.mean()),
        "spread": float(made.std(0).mean()),
    }


class Operations(TorchDispatchMode):
    """Counts floating-point operations by torch's formulas; its own counter follows modules, too, and fails where a step takes gradients within one."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run and count."""
        found = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=found) if formula else 0
        return found


def bench_train(models: dict[str, tuple[Energy, Objective, int]], steps: int = 3) -> list[dict[str, Any]]:
    """What a training step of each model costs, forward and backward, on noise.

    Columns: clips per CPU second and per second; CPU seconds of a step; ``forwards``, its floating-point operations (convolutions and products of matrices, as torch counts them) over those of
    drawing one future of each past, or of encoding it where nothing is drawn; parameters in millions.

    Args:
        models: by name, with their objective and the batch size.
    """
    rows = []
    for name, (energy, objective, size) in models.items():
        shape = (size, energy.past + energy.future, energy.channels, energy.size, energy.size)
        clip = torch.rand(shape)
        batch = Batch(clip[:, : energy.past], clip[:, energy.past :], torch.arange(size))
        if isinstance(objective, Reclustered):
            features = objective.features(energy.eval(), batch).shape[1]
            objective.recluster(torch.randn(objective.clips, features), torch.arange(objective.clips), torch.Generator().manual_seed(0))
        energy.train()
        objective.loss(energy, batch, Moment(0, 1)).loss.backward()  # what is made at a first step is made now
        times = []
        for _ in range(steps):
            wall, cpu = time.perf_counter(), time.process_time()
            objective.loss(energy, batch, Moment(1, 1)).loss.backward()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        with Operations() as whole:
            objective.loss(energy, batch, Moment(1, 1)).loss.backward()
        with torch.no_grad(), Operations() as once:
            energy.eval().sample(batch.x, 1) if energy.paints else energy.eval().encode(batch.x)
        wall, cpu = (sorted(t)[len(t) // 2] for t in zip(*times, strict=True))
        millions = sum(p.numel() for p in energy.parameters()) / 1e6
        forwards = whole.total / once.total
        row = {"recipe": name, "batch": size, "parameters_M": millions, "forwards": forwards, "cpu_s_per_step": cpu}
        rows.append({**row, "clips_per_s": size / wall, "clips_per_cpu_s": size / cpu})
    return rows
