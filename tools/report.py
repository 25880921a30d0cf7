"""Compare runs, or the cells of a sweep, on one static page: futures that play, scores beside their ideals, charts."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.evaluation.report import write_report
from vidssl.types import UserError


def main(argv: list[str]) -> None:
    """Run ``vidssl report RUN... [--output DIR]`` or ``vidssl report SWEEP [--output DIR]``."""
    parser = argparse.ArgumentParser(prog="vidssl report", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a folder with metrics.json, or a folder of such folders; or one folder of vidssl sweep")
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("report"), help="the page's folder (default: report)")
    parser.add_argument("--title", default="", help="what the page is about")
    parser.add_argument("--intro", default="", help="a few sentences for who has not seen the data")
    arguments = parser.parse_args(argv)
    from vidssl.sweep.report_cells import is_sweep

    sweeps = [str(run) for run in arguments.runs if is_sweep(run)]
    if sweeps and len(arguments.runs) > 1:
        raise UserError(f"a sweep has a report of its own; got {sweeps[0]!r} and {len(arguments.runs) - 1} more: name it alone")
    if sweeps:
        from vidssl.sweep.report import write_sweep_report

        page = write_sweep_report(arguments.runs[0], arguments.output, arguments.title, arguments.intro)
    else:
        page = write_report(arguments.runs, arguments.output, arguments.title or "Futures compared", arguments.intro)
    print(f"written: {page}")
