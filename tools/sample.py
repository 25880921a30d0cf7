"""Draw several futures of a video's past, as pictures and as numbers."""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path

import numpy as np
import torch

from vidssl.data.clips import ClipPlan
from vidssl.data.pasts import Past, read_pasts
from vidssl.energy.base import Energy
from vidssl.energy.refine import choose, descend
from vidssl.export.load import open_model
from vidssl.progress import bar, table
from vidssl.render import Scene, write_futures, write_scene
from vidssl.types import UserError, to_uint8, to_unit

CHUNK_BYTES = 512 * 2**20  # of futures as floats at a time; a constant, so that no machine draws other futures


def draw(energy: Energy, past: Past, n: int, seed: int, horizon: int, among: int = 1, steps: int = 0, rate: float = 0.0, temperature: float = 0.0) -> np.ndarray:
    """`n` futures of a past, ``[n, horizon, C, H, W]`` uint8; the past is encoded once for all that fit in a chunk.

    The noise depends on the seed and the past's name, and not on what else is drawn. Of every `among` draws one is kept, by its energy, and walks `steps` down the slope: see :mod:`vidssl.energy.refine`.
    """
    device = next(energy.parameters()).device
    digest = hashlib.sha256(f"{seed} {past.name}".encode()).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
    x = to_unit(torch.from_numpy(np.ascontiguousarray(past.x))[None].to(device))
    chunk = max(1, CHUNK_BYTES // (4 * horizon * past.x[0].size * among))
    sizes = [min(chunk, n - done) for done in range(0, n, chunk)]
    made = []
    with torch.inference_mode():
        for size in sizes:
            futures = energy.sample(x, size * among, generator, horizon)
            futures = choose(energy, x, futures, among, temperature, generator) if among > 1 else futures
            futures = descend(energy, x, futures, steps, rate, temperature, generator) if steps else futures
            made.append(to_uint8(futures)[:, 0].cpu())
    return torch.cat(made).numpy()


def main(argv: list[str]) -> None:
    """Run ``vidssl sample``."""
    parser = argparse.ArgumentParser(prog="vidssl sample", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder or a shipped model's name")
    parser.add_argument("--input", metavar="VIDEO_OR_FOLDER", required=True)
    parser.add_argument("--futures", metavar="N", type=int, default=8, help="futures of each past (default 8)")
    parser.add_argument("--among", metavar="M", type=int, default=1, help="of every M draws keep one by its energy, which at --temperature 0 is the least (default 1)")
    parser.add_argument("--steps", metavar="K", type=int, default=0, help="steps that each future then walks down the energy's slope in pixels (default 0)")
    parser.add_argument("--rate", type=float, default=1.0, help="of such a step, in squared pixels a unit of energy (default 1.0)")
    parser.add_argument("--temperature", metavar="T", type=float, default=0.0, help="keep with odds exp(-energy / T), and walk with noise; a GAN's critic is made for 1 (default 0: the least, and no noise)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same futures (default 0)")
    parser.add_argument("--horizon", metavar="T", type=int, help="future frames (default: as many as the model was trained on)")
    parser.add_argument("--start", nargs="+", default=["0"], help="where pasts begin in each video: frames (40) or times (2.5s); default 0")
    parser.add_argument("--limit", metavar="N", type=int, default=8, help="pasts at most (default 8)")
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("runs/samples"), help="default runs/samples")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    arguments = parser.parse_args(argv)
    model = open_model(arguments.model, arguments.device)
    energy = model.energy
    horizon = energy.future if arguments.horizon is None else arguments.horizon
    for name, value in (("--futures", arguments.futures), ("--horizon", horizon), ("--limit", arguments.limit), ("--among", arguments.among)):
        if value < 1:
            raise UserError(f"{name} is at least 1; got {value}")
    if arguments.steps < 0 or arguments.rate <= 0 or not 0 <= arguments.temperature < math.inf:
        raise UserError(f"--steps is at least 0, --rate above 0 and --temperature at least 0; got {arguments.steps}, {arguments.rate:g} and {arguments.temperature:g}")
    if arguments.temperature and arguments.among == 1 and not arguments.steps:
        raise UserError(f"--temperature is of a choice or of a walk; got {arguments.temperature:g} with neither: add --among or --steps")
    if (arguments.among > 1 or arguments.steps) and horizon != energy.future:
        raise UserError(f"the energy scores futures of {energy.future} frames; got --horizon {horizon} with --among or --steps: leave out one of them")
    plan = ClipPlan(energy.past, horizon, model.data.get("stride") or 1, model.data.get("fps"))
    refused: list[str] = []
    pasts = list(read_pasts(arguments.input, plan, energy.size, energy.channels, arguments.start, arguments.limit, refused))
    scenes, rows = [], []
    for past in bar(pasts, len(pasts), "drawing futures"):
        scene = Scene(past.name, past.x, draw(energy, past, arguments.futures, arguments.seed, horizon, arguments.among, arguments.steps, arguments.rate, arguments.temperature), past.y)
        files = write_scene(arguments.output, scene)
        rows.append({"past": past.name, "true frames": len(past.y), "pictures": ", ".join(f.suffix[1:] for f in files)})
        scenes.append(scene)
    numbers = write_futures(arguments.output / "futures.npz", scenes, arguments.seed)
    table(f"{arguments.futures} futures of {horizon} frames each", rows)
    for line in refused[:5]:
        print(f"passed over: {line}")
    if len(refused) > 5:
        print(f"passed over: {len(refused) - 5} more")
    print(f"written: {arguments.output}/*.png, .gif, .mp4 and {numbers}")
