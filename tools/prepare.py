"""Decode a folder of videos once, to frames that load at memory speed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vidssl.data.decode import DECODERS
from vidssl.data.prepare import prepare
from vidssl.data.shards import REFUSED
from vidssl.progress import bar

SHOWN = 10


def main(argv: list[str]) -> None:
    """Run ``vidssl prepare``."""
    parser = argparse.ArgumentParser(
        prog="vidssl prepare",
        description=f"{__doc__} Run it again after an interruption, or when videos were added: it goes on where it stopped.",
    )
    parser.add_argument("source", metavar="SRC", help="a folder of videos, or a text file with a path a line")
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder for the shards; use it as --data.folder of vidssl fit")
    parser.add_argument("--size", type=int, default=64, help="side of the square frames, in pixels (default 64)")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="1 for grey, 3 for colour (default)")
    parser.add_argument("--decoder", choices=DECODERS, default="pyav", help="pyav (default) is exact on every file")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode (default 0: this one)")
    parser.add_argument(
        "--ray", metavar="ADDRESS", nargs="?", const="local", help="decode on a Ray cluster (default address: one on this machine); all its machines see SRC and OUT"
    )
    parser.add_argument("--max-bad", type=float, default=0.5, help="share of the files that may be refused (default 0.5)")
    a = parser.parse_args(argv)
    counts = prepare(a.source, a.out, a.size, a.channels, a.decoder, a.workers, a.max_bad, bar, a.ray)
    table = Table(title=f"in {a.out}", title_justify="left")
    table.add_column("files")
    table.add_column("number", justify="right")
    for what, number in (("found", counts.found), ("written", counts.written), ("kept", counts.kept), ("refused", counts.refused)):
        table.add_row(what, f"{number:,}")
    console = Console()
    console.print(table)
    gigabytes = counts.frames * a.channels * a.size**2 / 1e9
    console.print(f"{counts.frames:,} frames of {a.channels} x {a.size} x {a.size}, {gigabytes:.3g} GB", highlight=False)
    if counts.refused:
        for entry in json.loads((a.out / REFUSED).read_text())[:SHOWN]:
            console.print(f"refused: {entry['reason']}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"all reasons: {a.out / REFUSED}", markup=False, highlight=False, soft_wrap=True)
