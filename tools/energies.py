"""Compare energies: recipes x seeds, each trained and evaluated, a critic beside its predictor's own energy, as one job that can be gone on with."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.progress import bar
from vidssl.sweep.energies import read_energies, run_energy
from vidssl.sweep.energies_report import write_energies
from vidssl.sweep.run import run_sweep, tell
from vidssl.types import UserError


def main(argv: list[str]) -> None:
    """Run ``vidssl energies CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl energies", description=__doc__)
    parser.add_argument("config", help="a YAML file, or a shipped one: energies/fork")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: runs/energies-NAME; finished cells in it are kept")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once (default: 1); on a CPU each takes one core")
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="dealt out to the cells in turn, e.g. cuda:0 cuda:1 (default: cpu)")
    parser.add_argument("--recipes", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these")
    args = parser.parse_args(argv)
    cells = read_energies(args.config)
    for name, asked, known in (("--recipes", args.recipes, {c.limiter for c in cells}), ("--seeds", args.seeds, {c.seed for c in cells})):
        if asked and (unknown := set(asked) - known):
            raise UserError(f"{name} are among {', '.join(map(str, sorted(known)))}; got {', '.join(map(str, sorted(unknown)))}")
    if args.jobs < 1:
        raise UserError(f"a comparison runs at least one cell at a time; got --jobs {args.jobs}")
    cells = [c for c in cells if (not args.recipes or c.limiter in args.recipes) and (not args.seeds or c.seed in args.seeds)]
    folder = args.output or Path("runs") / f"energies-{Path(args.config).stem}"
    outcome = run_sweep(cells, folder, args.jobs, args.devices, bar, run_energy)
    tell(outcome, folder)
    write_energies(folder, folder, f"Energies on {Path(args.config).stem}")
    print(f"  the table is {folder / 'energies.md'}")
