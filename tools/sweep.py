"""Compare limiters: limiters x rates x seeds on one data set, as one job that can be stopped and gone on with."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.progress import bar
from vidssl.sweep.config import read_sweep
from vidssl.sweep.run import run_sweep, tell
from vidssl.types import UserError


def main(argv: list[str]) -> None:
    """Run ``vidssl sweep CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl sweep", description=f"{__doc__} Draw the results with `vidssl report DIR`.")
    parser.add_argument("config", help="a YAML file, or a shipped one: sweeps/fork, or sweeps/video on your own videos")
    parser.add_argument("--folder", help="of videos or of prepared ones, in place of the folder that the data section names")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: runs/sweep-NAME; finished cells in it are kept")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once (default: 1); on a CPU each takes one core")
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="dealt out to the cells in turn, e.g. cuda:0 cuda:1 (default: cpu)")
    parser.add_argument("--limiters", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these")
    args = parser.parse_args(argv)
    cells = read_sweep(args.config, args.folder)
    place = cells[0].spec["data"].get("init_args", {}).get("folder")
    if place is not None and not Path(place).exists():  # said once, not by every cell
        raise UserError(f"{args.config} is about a folder of videos; there is no {place!r}: give yours with --folder")
    for name, asked, known in (("limiters", args.limiters, {c.limiter for c in cells}), ("seeds", args.seeds, {c.seed for c in cells})):
        if asked and (unknown := set(asked) - known):
            raise UserError(f"--{name} are among {', '.join(map(str, sorted(known)))}; got {', '.join(map(str, sorted(unknown)))}")
    cells = [c for c in cells if (not args.limiters or c.limiter in args.limiters) and (not args.seeds or c.seed in args.seeds)]
    if args.jobs < 1:
        raise UserError(f"a sweep runs at least one cell at a time; got --jobs {args.jobs}")
    folder = args.output or Path("runs") / f"sweep-{Path(args.config).stem}"
    outcome = run_sweep(cells, folder, args.jobs, args.devices, bar)
    tell(outcome, folder)
    print(f"  draw them: vidssl report {folder}")
