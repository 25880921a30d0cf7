"""What two frames tell of where digits will be, for whoever knows the rule, the digits and their places exactly: the most that a predictor can reach.

Futures are drawn from the true distribution given the two frames; the mean of their maps of centres is the probability that a perfect predictor would give,
and its average precision the bound. The best of k of them has the least cross-entropy to the true map. Batches, cells and mean are those of `vidssl detect`.

    python docs/results/detection/bound.py moving-mnist --mnist MNIST
    python docs/results/detection/bound.py bounce --mnist MNIST
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vidssl.data.moving_mnist import DIGIT, FUTURE, PAST, SIZE, MadeHalves, MovingMNIST, tracks
from vidssl.data.worlds.base import TEST_SEED
from vidssl.data.worlds.bounce import Bounce
from vidssl.evaluation.detection import average_precision, maps_of_frames
from vidssl.evaluation.protocol import chosen

Clip = tuple[Tensor, Tensor]  # true maps [8, 8, 8], maps of drawn futures [n, 8, 8, 8]
SLACK = 1e-2  # of a probability of 0 or 1 among few draws


def moving_mnist(mnist: str, draws: int) -> Callable[[int], Clip]:
    """Tracks of a large stock that pass the same two places, for each digit."""
    clips = MovingMNIST(mnist).clips("test")
    assert isinstance(clips, MadeHalves)
    rng = np.random.default_rng(0)
    stock = [tracks(rng.random((400_000, 2)), rng.random(400_000) * 2 * np.pi) for _ in range(5)]
    ways = np.concatenate([way[:, t : t + PAST + FUTURE] for way in stock for t in (0, 10)]).astype(np.int8)
    key = _key(ways[:, 0], ways[:, 1])
    order = key.argsort(kind="stable")
    key = key[order]

    def clip(i: int) -> Clip:
        numbers, places = clips.made(i // 2)
        places = places[:, i % 2 * 10 :][:, : PAST + FUTURE]
        found = []
        for track in places:
            low, high = (np.searchsorted(key, _key(track[None, 0], track[None, 1]), side=side)[0] for side in ("left", "right"))
            rows = order[rng.integers(low, high, draws)] if high > low else None
            found.append(np.repeat(track[None], draws, 0) if rows is None else ways[rows])
        made = [_draw(clips, numbers, np.stack(found, 1)[:, :, PAST:]), _draw(clips, numbers, places[None, :, PAST:])]
        return maps_of_frames(made[1])[0], maps_of_frames(made[0])

    return clip


def _key(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two places as one number."""
    side = SIZE - DIGIT + 1
    step = second.astype(int) - first + 8
    return ((first[:, 0].astype(int) * side + first[:, 1]) * 17 + step[:, 0]) * 17 + step[:, 1]


def _draw(clips: MadeHalves, numbers: list[int], places: np.ndarray) -> Tensor:
    """Videos ``[n, T, 1, 64, 64]`` of digits at ``places [n, 2, T, 2]``."""
    video = np.zeros((len(places), places.shape[2], SIZE, SIZE), np.uint8)
    for digit, ways in zip((clips.digits[n] for n in numbers), places.swapaxes(0, 1)):
        for frame, (row, column) in zip(video.reshape(-1, SIZE, SIZE), ways.reshape(-1, 2).tolist()):
            window = frame[row : row + DIGIT, column : column + DIGIT]
            np.maximum(window, digit, out=window)
    return torch.from_numpy(video)[:, :, None]


def bounce(mnist: str, draws: int) -> Callable[[int], Clip]:
    """Futures that the world itself draws."""
    world = Bounce(SIZE, PAST, FUTURE, 2, DIGIT, 1, mnist)
    noise = torch.Generator().manual_seed(0)

    def clip(i: int) -> Clip:
        episode = world.episode(TEST_SEED, i)
        return maps_of_frames(episode.y), maps_of_frames(world.render(episode.state, world.draw(episode.state, draws, noise)))

    return clip


def main() -> None:
    """Print the bound, as it is and by steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rule", choices=("moving-mnist", "bounce"))
    parser.add_argument("--mnist", metavar="DIR", required=True)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--limit", type=int, default=512)
    args = parser.parse_args()
    clip = {"moving-mnist": moving_mnist, "bounce": bounce}[args.rule](args.mnist, args.draws)
    made = [clip(i) for i in chosen(2000, args.limit)]
    truth, drawn = torch.stack([t for t, _ in made]), torch.stack([d for _, d in made], 1)
    print("mean of all", *_rounded(_ap(drawn.mean(0), truth)))
    sure = drawn.clamp(SLACK, 1 - SLACK)
    price = -(truth * sure.log() + (1 - truth) * (1 - sure).log()).flatten(2).mean(2)
    for k in (1, 2, 4, 8, 16):
        best = drawn[price[:k].argmin(0), torch.arange(len(truth))]
        print(k, "best", *_rounded(_ap(best, truth)), "mean", *_rounded(_ap(drawn[:k].mean(0), truth)))


def _ap(scores: Tensor, truth: Tensor) -> list[float]:
    parts = [(s, t) for s, t in zip(scores.split(64), truth.split(64))]
    steps = [sum(average_precision(s[:, t], m[:, t]) for s, m in parts) / len(parts) for t in range(truth.shape[1])]
    return [sum(steps) / len(steps), *steps]


def _rounded(values: list[float]) -> list[str]:
    return [f"{v:.3f}" for v in values]


if __name__ == "__main__":
    main()
