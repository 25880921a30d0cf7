"""What choosing among draws does to how they spread over the true futures, at several temperatures.

    python docs/results/contrastive/choosing.py MODEL --data fork-gaussian
"""

from __future__ import annotations

import argparse

import torch

from vidssl.data.config import load_data
from vidssl.energy.refine import choose
from vidssl.evaluation.truth import mode_scores, odds_of
from vidssl.export.load import open_model
from vidssl.types import to_unit

COLUMNS = ("total_variation", "mode_recall", "mode_precision")


def main() -> None:
    """Draw, choose, count; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="a world whose modes are known")
    parser.add_argument("--among", type=int, default=8)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 0.3, 1.0, 3.0])
    parser.add_argument("--pasts", type=int, default=16)
    parser.add_argument("--draws", type=int, default=512, help="that are kept of each past")
    args = parser.parse_args()
    energy, data = open_model(args.model, "cpu").energy.eval(), load_data(args.data)
    world, clips = data.world, data.clips("test").batch(0, list(range(args.pasts)))
    kept: dict[str, list[dict[str, float]]] = {"no choice": [], **{f"{t:g}": [] for t in args.temperatures}}
    for i in range(args.pasts):
        generator, x = torch.Generator().manual_seed(i), to_unit(clips.x[i])[None]
        with torch.inference_mode():
            futures = energy.sample(x, args.draws * args.among, generator)
            ways = {"no choice": futures[: args.draws]} | {f"{t:g}": choose(energy, x, futures, args.among, t, generator) for t in args.temperatures}
        for name, chosen in ways.items():
            kept[name] += mode_scores(world.mode_of(clips.state[i], chosen[:, 0]), odds_of(world, clips.state[i]), generator)
    print(f"| temperature | {' | '.join(COLUMNS)} |\n|---|---|---|---|")
    for name, rows in kept.items():
        print(f"| {name} | {' | '.join(f'{sum(row[c] for row in rows) / len(rows):.3f}' for c in COLUMNS)} |")


if __name__ == "__main__":
    main()
