"""Ask a model which of two futures is possible: objects that vanish, change, or pass through a wall."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.data.config import load_data
from vidssl.evaluation.impossible import judge
from vidssl.export.load import open_model
from vidssl.files import write_json
from vidssl.progress import table
from vidssl.types import UserError


def main(argv: list[str]) -> None:
    """Run ``vidssl impossible MODEL --data CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl impossible", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder with a whole model, or a shipped model's name")
    parser.add_argument("--data", metavar="CONFIG", required=True, help="a recipe, or a YAML file with a data section as in one, of a world (bounce, fork)")
    parser.add_argument("--pairs", metavar="N", type=int, default=256, help="how many (default 256)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("impossible.json"), help="default impossible.json")
    args = parser.parse_args(argv)
    if args.output.is_dir():
        raise UserError(f"--output is a file; {str(args.output)!r} is a folder: give a name in it")
    opened = open_model(args.model, args.device)
    scores = judge(opened.energy, load_data(args.data), args.pairs, args.device, opened.sha256)
    write_json(args.output, scores)
    rows = [
        {"impossible": kind, "energy": name.replace("_", " "), **{key: found[key] for key in ("accuracy", "low", "high", "ties", "auroc")}}
        for name in ("free_energy", "soft_free_energy")
        for kind, found in scores.get(name, {}).items()
    ]
    table(f"{args.model}: possible below impossible, {args.pairs} pairs; .5 is chance, low to high is the 95 % interval", rows)
    print(f"written: {args.output}")
