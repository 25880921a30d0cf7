"""How well fresh critics tell a trained model's futures from true ones, by the weight of their penalties and their width.

    python docs/results/contrastive/critics.py MODEL --data fork-gaussian

Each learns the relativistic contest for some steps against the same made futures; the table has the mean contest of the last quarter (log 2 = .69: it cannot tell) and seconds a step.
"""

from __future__ import annotations

import argparse
import time

import torch

from vidssl.data.config import load_data
from vidssl.export.load import open_model
from vidssl.nets.critics import ClipCritic
from vidssl.objectives.contests import Relativistic
from vidssl.types import to_unit


def main() -> None:
    """Draw one future of each clip, train the critics, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--clips", type=int, default=2560)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--patch", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--penalties", type=float, nargs="+", default=[1.0, 0.1, 0.01, 0.001])
    args = parser.parse_args()
    energy, clips = open_model(args.model, "cpu").energy.eval(), load_data(args.data).clips("train").batch(0, list(range(args.clips)))
    x, y = to_unit(clips.x), to_unit(clips.y)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made = torch.cat([energy.sample(part, 1, generator)[0] for part in x.split(64)])
    print("| width | penalty | contest | s a step |\n|---|---|---|---|")
    for width in args.widths:
        for penalty in args.penalties:
            torch.manual_seed(0)
            critic = ClipCritic(energy.past, energy.future, energy.channels, energy.size, width, patch=args.patch)
            begin, contests = time.perf_counter(), learn(critic, x, y, made, args.steps, args.batch, penalty)
            late = contests[-max(1, args.steps // 4) :]
            print(f"| {width} | {penalty:g} | {sum(late) / len(late):.2f} | {(time.perf_counter() - begin) / args.steps:.2f} |", flush=True)


def learn(critic: ClipCritic, x: torch.Tensor, y: torch.Tensor, made: torch.Tensor, steps: int, batch: int, penalty: float) -> list[float]:
    """The contest of each step."""
    optimizer, contest, found = torch.optim.AdamW(critic.parameters(), 1e-3, betas=(0.0, 0.99), weight_decay=0), Relativistic(), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 20)
        rows = torch.randint(len(x), (batch,))
        both = torch.cat((y[rows], made[rows])).requires_grad_()
        scores = critic(torch.cat((x[rows], x[rows])), both)
        loss = contest.critic(*scores.chunk(2)).mean()
        (slope,) = torch.autograd.grad(scores.sum(), both, create_graph=True)
        optimizer.zero_grad()
        (loss + penalty * slope.square().flatten(1).sum(1).mean()).backward()  # r/2 of the mean of either half is r of the mean of both
        optimizer.step()
        found.append(loss.detach().item())
    return found


if __name__ == "__main__":
    main()
