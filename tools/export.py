"""Write an encoder, or a whole model, as safetensors with a JSON card."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vidssl.export.card import NAME, WEIGHTS
from vidssl.export.load import open_model
from vidssl.export.write import export


def main(argv: list[str]) -> None:
    """Run ``vidssl export``."""
    parser = argparse.ArgumentParser(prog="vidssl export", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder or a shipped model's name")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="the folder to write; an earlier export there is replaced")
    parser.add_argument("--what", choices=list(WEIGHTS), default="encoder", help="the encoder only (default), or the whole model")
    arguments = parser.parse_args(argv)
    opened = open_model(arguments.model)
    card = export(opened, arguments.output, arguments.what)
    table = Table("file", "holds", title=f"in {arguments.output}", title_justify="left")
    weights, given = card["weights"], card["input"]
    table.add_row(weights["file"], f"{weights['parameters']:,} parameters, sha256 {weights['sha256'][:12]}")
    clip = f"{given['frames']} frames of {given['channels']} x {given['size']} x {given['size']}"
    table.add_row(NAME, f"{clip} to features {card['output']['features']}")
    console = Console()
    console.print(table)
    how = "vidssl.load" if arguments.what == "model" else "vidssl.export.load.load_encoder"
    console.print(f"open it with {how}({str(arguments.output)!r})", markup=False, highlight=False, soft_wrap=True)
