"""Predicted futures and where the head sees digits in them, as one PNG.

    python docs/results/detection/picture.py MODEL --data moving-mnist.yaml --output futures.png

For each clip: the future, its cells with a centre, then for each predicted future its frames and the head's probabilities; after several, the mean of the probabilities.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vidssl.data.config import load_data
from vidssl.evaluation.detect import drawn, known, predicts
from vidssl.evaluation.detection import maps_of_frames, train
from vidssl.export.load import open_model
from vidssl.types import to_unit


def main() -> None:
    """Train a head, draw futures, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--clips", type=int, nargs="+", default=[0, 700], help="numbers of test clips")
    parser.add_argument("--futures", type=int, default=1)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--output", default="futures.png")
    args = parser.parse_args()
    energy, data = open_model(args.model, "cpu").energy.eval(), load_data(args.data)
    predicts(energy, data)
    made = data.clips("train").batch(0, list(range(2048)))
    head = train(lambda rows: known(energy, to_unit(made.x[rows]), to_unit(made.y[rows])), maps_of_frames(made.y), args.steps)
    test = data.clips("test").batch(0, args.clips)
    x, y = to_unit(test.x), to_unit(test.y)
    futures = energy.sample(x, args.futures, torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = head(drawn(energy, x, args.futures, torch.Generator().manual_seed(0))).sigmoid()
    truth, rows = maps_of_frames(test.y), []
    for b in range(len(x)):
        past = x[b, :, 0]
        rows += [_row(y[b, :, 0], past), _row(_large(truth[b]), 0 * past)]
        for n in range(args.futures):
            rows += [_row(futures[n, b, :, 0], 0 * past), _row(_large(maps[n, b]), 0 * past)]
        if args.futures > 1:
            rows.append(_row(_large(maps[:, b].mean(0)), 0 * past))
    Image.fromarray(np.concatenate(rows)).save(args.output, optimize=True)


def _row(frames: Tensor, past: Tensor) -> np.ndarray:
    """Frames ``[T, 64, 64]`` after those of the past, with a grey line round each."""
    cells = F.pad(torch.cat((past, frames)), (1, 1, 1, 1), value=0.35)
    return (torch.cat(list(cells), 1) * 255).byte().numpy()


def _large(maps: Tensor) -> Tensor:
    return maps.repeat_interleave(8, -1).repeat_interleave(8, -2)


if __name__ == "__main__":
    main()
