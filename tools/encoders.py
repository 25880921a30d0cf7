"""Compare encoders: recipes x seeds, each trained and probed beside a random and a supervised encoder, as one job that can be gone on with."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.progress import bar
from vidssl.sweep.encoders import YARDSTICKS, read_comparison, run_encoder
from vidssl.sweep.encoders_report import write_comparison
from vidssl.sweep.run import run_sweep, tell
from vidssl.types import UserError


def main(argv: list[str]) -> None:
    """Run ``vidssl encoders CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl encoders", description=__doc__)
    parser.add_argument("config", help="a YAML file, or a shipped one: encoders/bounce")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: runs/encoders-NAME; finished cells in it are kept")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once (default: 1); on a CPU each takes one core")
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="dealt out to the cells in turn, e.g. cuda:0 cuda:1 (default: cpu)")
    parser.add_argument("--recipes", nargs="+", help="only these; the yardsticks always")
    args = parser.parse_args(argv)
    cells = read_comparison(args.config)
    known = {cell.limiter for cell in cells} - {YARDSTICKS}
    if args.recipes and (unknown := set(args.recipes) - known):
        raise UserError(f"--recipes are among {', '.join(sorted(known))}; got {', '.join(sorted(unknown))}")
    if args.jobs < 1:
        raise UserError(f"a comparison runs at least one cell at a time; got --jobs {args.jobs}")
    cells = [c for c in cells if not args.recipes or c.limiter in {YARDSTICKS, *args.recipes}]
    folder = args.output or Path("runs") / f"encoders-{Path(args.config).stem}"
    outcome = run_sweep(cells, folder, args.jobs, args.devices, bar, run_encoder)
    tell(outcome, folder)
    write_comparison(folder, folder, f"Encoders on {Path(args.config).stem}")
    print(f"  the table is {folder / 'encoders.md'}, the figure {folder / 'encoders.svg'}")
