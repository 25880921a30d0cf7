"""Compare runs on one static page: futures that play, scores beside their ideals, charts."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidssl.evaluation.report import write_report


def main(argv: list[str]) -> None:
    """Run ``vidssl report RUN... [--output DIR]``."""
    parser = argparse.ArgumentParser(prog="vidssl report", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a folder with metrics.json, or a folder of such folders")
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("report"), help="the page's folder (default: report)")
    parser.add_argument("--title", default="Futures compared", help="what the page is about")
    parser.add_argument("--intro", default="", help="a few sentences for who has not seen the data")
    arguments = parser.parse_args(argv)
    page = write_report(arguments.runs, arguments.output, arguments.title, arguments.intro)
    print(f"written: {page}")
