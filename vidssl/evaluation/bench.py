"""How much N futures of one past cost, beside one.

The past is encoded once for all of them, so N futures cost well under N times one; the row says how many times
the encoder really ran.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from vidssl.energy.base import Energy


@torch.inference_mode()
def bench_sample(energy: Energy, counts: tuple[int, ...] = (1, 10, 100), repeats: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Median seconds to draw N futures of one past, after one draw to warm up.

    Args:
        energy: any model; its weights do not matter. counts: the N, the first being what the others are compared with.
        repeats: of each.

    Returns:
        Per N: ``futures``, ``seconds``, ``times_first`` (how often the first row's seconds), ``share_of_n`` (that over
        N / first N: 1 would be no gain at all), ``per_second`` (futures), ``encodes`` in one draw.
    """
    energy.eval()
    device = next(energy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    x = torch.rand(1, energy.past, energy.channels, energy.size, energy.size, device=device, generator=generator)
    rows: list[dict[str, Any]] = []
    for n in counts:
        calls = encoder_calls(energy, x, n, generator)
        seconds = statistics.median(_seconds(energy, x, n, generator) for _ in range(repeats))
        times = seconds / rows[0]["seconds"] if rows else 1.0
        rows.append(
            {
                "futures": n,
                "seconds": seconds,
                "times_first": times,
                "share_of_n": times * counts[0] / n,
                "per_second": n / seconds,
                "encodes": calls,
            }
        )
    return rows


def encoder_calls(energy: Energy, x: torch.Tensor, n: int, generator: torch.Generator) -> int:
    """How often `energy` encodes a past while it draws `n` futures."""
    encode, calls = energy.encode, 0

    def counted(clip: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return encode(clip)

    energy.encode = counted  # type: ignore[method-assign]
    try:
        energy.sample(x, n, generator)
    finally:
        del energy.encode  # the class's own again
    return calls


def _seconds(energy: Energy, x: torch.Tensor, n: int, generator: torch.Generator) -> float:
    """Wall seconds of one draw; a GPU's queue is waited for."""
    _wait(x.device)
    begin = time.perf_counter()
    energy.sample(x, n, generator)
    _wait(x.device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
