"""One small training of a phenomenon, described: a minute or less on a CPU, in a world where the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Report = Callable[[str], None]

FORK = {"class_path": "vidssl.data.worlds.fork.Fork", "init_args": {"size": 16, "past": 3, "future": 4, "side": 3, "speed": 1}}
SCALE = 40.0


def spec_of_run(latent: str, world: dict[str, Any] = FORK, seed: int = 0, steps: int = 500, price: float = 1.0, **more: Any) -> dict[str, Any]:
    """A cell of a sweep for one training; `more` goes to the latent, except ``objective`` and ``predictor``."""
    parts = {key: more.pop(key, default) for key, default in (("objective", {}), ("predictor", None))}
    data = {"world": world, "train_clips": 8192, "val_clips": 8, "test_clips": 128, "batch_size": 64}
    return {
        "data": {"class_path": "vidssl.data.module.WorldData", "init_args": data},
        "network": {"width": 48, "patch": 4, "encoder_depth": 1, "depth": 2, "decoder": "CopyDecoder", "frame_width": 16},
        "training": {"clips": 8192, "steps": steps, "batch": 64, "lr": 4e-3, "scale": SCALE},
        "latent": {"class_path": f"vidssl.latents.{latent}", "init_args": more},
        "inference": None,
        "target": "clip",
        "price": price,
        "seed": seed,
        **parts,
    }
