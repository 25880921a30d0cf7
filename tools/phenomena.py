"""Show what a latent of the wrong capacity does: predictions, and small trainings that hold or break them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from vidssl.files import write_json
from vidssl.progress import table
from vidssl.sweep.phenomena import PHENOMENA


def main(argv: list[str]) -> None:
    """Run ``vidssl phenomena [NAME...]``."""
    told = "\n".join(f"  {name:<9} {str(run.__doc__).splitlines()[0]}" for name, run in PHENOMENA.items())
    parser = argparse.ArgumentParser(prog="vidssl phenomena", description=f"{__doc__}\n\n{told}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", choices=[*PHENOMENA, []], help="which (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings (default: 0)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the rows as JSON, too")
    args = parser.parse_args(argv)
    rows, console = [], Console(stderr=True)
    for name in args.names or list(PHENOMENA):
        for seed in args.seeds:
            with console.status(name) as status:
                for row in PHENOMENA[name](seed, lambda what: status.update(f"{name}, seed {seed}: training, {what}")):
                    rows.append({"phenomenon": name, "seed": seed, **row})
                    console.print(f"{name}: {row['setting']}: {row['measure']} {row['measured']:.3g} (predicted: {row['predicted']})")
    table("phenomena", rows)
    if args.output:
        write_json(args.output, {"torch": str(torch.__version__), "rows": rows})
        print(f"written: {args.output}")
