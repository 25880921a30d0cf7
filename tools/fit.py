"""Train a model from a recipe; goes on from a checkpoint."""

from __future__ import annotations

from vidssl.training.main import fit


def main(argv: list[str]) -> None:
    """Run ``vidssl fit``."""
    fit(argv)
