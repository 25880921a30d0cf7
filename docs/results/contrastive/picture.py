"""Futures of one test clip by several models, one still below the other, as one PNG.

    python docs/results/contrastive/picture.py MODEL MODEL ... --data bounce-gaussian --clip 3 --output futures.png
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image

from vidssl.data.config import load_data
from vidssl.export.load import open_model
from vidssl.render import Scene, still
from vidssl.types import to_uint8, to_unit


def main() -> None:
    """Draw the same number of futures with each model, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--names", nargs="+", help="of the models in the picture (default: the words that open them)")
    parser.add_argument("--data", required=True)
    parser.add_argument("--clip", type=int, default=0, help="number of the test clip")
    parser.add_argument("--futures", type=int, default=4)
    parser.add_argument("--output", default="futures.png")
    args = parser.parse_args()
    clip = load_data(args.data).clips("test").batch(0, [args.clip])
    sheets = []
    for model, name in zip(args.models, args.names or args.models, strict=True):
        with torch.inference_mode():
            futures = open_model(model, "cpu").energy.eval().sample(to_unit(clip.x), args.futures, torch.Generator().manual_seed(0))
        sheets.append(still(Scene(name, clip.x[0].numpy(), to_uint8(futures)[:, 0].numpy(), clip.y[0].numpy())))
    Image.fromarray(np.concatenate(sheets)).save(args.output, optimize=True)


if __name__ == "__main__":
    main()
