"""Whose classes the configuration of a run may name; see :mod:`vidssl.data.named`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from vidssl.data.named import LONGEST, check_names, read_yaml
from vidssl.types import UserError

ALLOWED = (
    "vidssl",
    "torch.optim",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.loggers.csv_logs",
    "lightning.pytorch.loggers.TensorBoardLogger",
    "lightning.pytorch.loggers.tensorboard",
    "lightning.pytorch.strategies",
    "lightning.pytorch.accelerators",
    "lightning.pytorch.profilers",
    "lightning.pytorch.plugins",
    "lightning.fabric.plugins.environments",
)
"""What a recipe needs. All of torch would be too much: it loads files, compiles programs and fetches from the network in one call each."""


def check_file(config: Path, allowed: tuple[str, ...]) -> None:
    """Refuse a file that names a class from elsewhere, before anything that it names is imported.

    Raises:
        UserError: a class path outside `allowed`, or a file that is no YAML with sections.
    """
    try:
        with open(config, encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except UnicodeDecodeError as error:
        raise UserError(f"{str(config)!r} is no YAML: {error}") from error
    tree = read_yaml(text, repr(str(config)))
    if not isinstance(tree, dict):
        raise UserError(f"a configuration has sections such as trainer, model and data; {str(config)!r} has none")
    check_tree(tree, allowed, str(config))


def check_tree(tree: Any, allowed: tuple[str, ...], source: str, own: Collection[str] = ()) -> None:
    """Refuse a tree of settings that names a class from elsewhere, a function, or an address that is not one of the user's `own`.

    Raises:
        UserError: see :func:`check_file`.
    """
    told = ", ".join(dict.fromkeys(".".join(entry.split(".")[:3]) for entry in allowed)).replace("{", "{{").replace("}", "}}")
    source = source.replace("{", "{{").replace("}", "}}")
    check_names(tree, allowed, f"a configuration names classes of {told}; {source} names {{name!r}}: if you trust it, add --allow_class_path {{package}}", own)
    trainer = tree.get("trainer") if isinstance(tree, dict) else None
    if isinstance(trainer, dict) and trainer.get("model_registry"):
        raise UserError("a configuration sends no model anywhere; got trainer.model_registry: leave it out")
