"""Data from a configuration: the `data` section of a recipe, or a file of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from vidssl.data.module import ClipData
from vidssl.house import find_config
from vidssl.types import UserError


def load_data(name: str | Path, **changes: Any) -> ClipData:
    """The data that a YAML file's `data` section describes, with `changes` to its arguments.

    Raises:
        UserError: no such file, no such section, classes from outside this package, or arguments that do not fit.
    """
    path = find_config(name)
    try:
        section = (yaml.safe_load(path.read_text()) or {}).get("data")
    except (yaml.YAMLError, AttributeError) as error:
        raise UserError(f"{path} is no YAML with sections: {error}") from error
    if not isinstance(section, dict) or "class_path" not in section:
        raise UserError(f"{path} has no data section with a class_path")
    return make_data(section, str(path), **changes)


def make_data(section: dict[str, Any], where: str = "the data section", **changes: Any) -> ClipData:
    """The data that a section ``{class_path, init_args}`` describes."""
    _check(section, where)
    section = {**section, "init_args": {**section.get("init_args", {}), **changes}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ClipData, "data")
    try:
        return parser.instantiate_classes(parser.parse_object({"data": section})).data
    except (argparse.ArgumentError, TypeError) as error:
        raise UserError(f"{where} does not fit: {' '.join(str(error).split())[:400]}") from error


def _check(node: Any, where: str) -> None:
    if isinstance(node, dict):
        name = node.get("class_path", "vidssl.")
        if not str(name).startswith("vidssl.") and "." in str(name):
            raise UserError(f"{where} may name classes of vidssl only; got {name!r}")
        for value in node.values():
            _check(value, where)
