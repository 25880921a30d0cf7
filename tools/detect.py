"""Find the digits of Moving MNIST in a model's predicted futures: average precision step by step."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.data.config import load_data
from vidssl.data.moving_mnist import MovingMNISTFile
from vidssl.evaluation.detect import detect
from vidssl.export.load import open_model
from vidssl.files import write_json
from vidssl.progress import bar, table
from vidssl.types import UserError


def main(argv: list[str]) -> None:
    """Run ``vidssl detect MODEL --data CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl detect", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder with a whole model, or a shipped model's name")
    parser.add_argument("--data", metavar="CONFIG", default="data/moving-mnist", help="a YAML file with a data section (default data/moving-mnist: clips made by the rule)")
    parser.add_argument("--file", metavar="FILE", help="mnist_test_seq.npy, the published clips, in place of --data")
    parser.add_argument("--futures", metavar="K", type=int, default=16, help="of each past, for the best of k (default 16)")
    parser.add_argument("--steps", metavar="N", type=int, default=2000, help="of the head's training (default 2000)")
    parser.add_argument("--clips", metavar="N", type=int, default=4096, help="that the head is trained on, at most (default 4096)")
    parser.add_argument("--limit", metavar="N", type=int, default=2000, help="test clips at most (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the head and of the futures (default 0)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("detect.json"), help="default detect.json")
    args = parser.parse_args(argv)
    if args.output.is_dir():
        raise UserError(f"--output is a file; {str(args.output)!r} is a folder: give a name in it")
    opened = open_model(args.model, args.device)
    numbers = {name: getattr(args, name) for name in ("futures", "steps", "clips", "limit", "seed", "device")}
    data = MovingMNISTFile(args.file) if args.file else load_data(args.data)
    scores = detect(opened.energy, data, **numbers, weights=opened.sha256, progress=bar)
    write_json(args.output, scores)
    found = {name: scores[name] for name in ("sliding", "first", "true", "copy_last")}
    found |= {f"{group.replace('_of_N', '')} of {k}": row for group in ("best_of_N", "mean_of_N") for k, row in scores[group].items()}
    steps = range(len(scores["first"]["ap"]))
    rows = [{"reading": k, "mAP": f"{v['map']:.3f}", **{f"{s + 1}": f"{v['ap'][s]:.2f}" if s < len(v["ap"]) else "" for s in steps}} for k, v in found.items()]
    table(f"{args.model}: average precision by steps ahead, {scores['protocol']['clips']} clips", rows)
    print(f"written: {args.output}")
