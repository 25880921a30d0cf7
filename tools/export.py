"""Write an encoder for whoever wants to use it, or a whole model, with a JSON card."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vidssl.export.card import NAME, WEIGHTS
from vidssl.export.formats import FORMATS
from vidssl.export.load import open_model
from vidssl.export.write import export


def main(argv: list[str]) -> None:
    """Run ``vidssl export``."""
    parser = argparse.ArgumentParser(prog="vidssl export", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder or a shipped model's name")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="the folder to write; an earlier export there is replaced")
    parser.add_argument("--what", choices=list(WEIGHTS), default="encoder", help="the encoder only (default), or the whole model")
    told = "; ".join(f"{name}: {form.told}" for name, form in FORMATS.items())
    parser.add_argument("--format", choices=list(FORMATS), default="safetensors", help=f"{told} (default: safetensors)")
    arguments = parser.parse_args(argv)
    opened = open_model(arguments.model)
    card = export(opened, arguments.output, arguments.what, arguments.format)
    table = Table("file", "holds", title=f"in {arguments.output}", title_justify="left")
    weights, given = card["weights"], card["input"]
    table.add_row(weights["file"], f"{weights['parameters']:,} parameters, sha256 {weights['sha256'][:12]}")
    clip = f"{given['frames']} frames of {given['channels']} x {given['size']} x {given['size']}"
    table.add_row(NAME, f"{clip} to features {card['output']['features']}")
    for name, what in FORMATS[arguments.format].beside.items():
        table.add_row(name, what)
    console = Console()
    console.print(table)
    if "note" in weights:
        console.print(weights["note"], markup=False, highlight=False, soft_wrap=True)
    console.print(f"open it with {FORMATS[arguments.format].opening(arguments.output, arguments.what)}", markup=False, highlight=False, soft_wrap=True)
