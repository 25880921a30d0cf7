"""Data from a configuration: the `data` section of a recipe, or a file of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vidssl.data.module import ClipData
from vidssl.data.named import LONGEST, OURS, check_names, only, read_yaml
from vidssl.house import find_config
from vidssl.types import UserError


def load_data(name: str | Path, **changes: Any) -> ClipData:
    """The data that a YAML file's `data` section describes, with `changes` to its arguments.

    Raises:
        UserError: no such file, no such section, classes from outside this package, or arguments that do not fit.
    """
    path = find_config(name)
    try:
        with open(path, encoding="utf-8") as file:
            tree = read_yaml(file.read(LONGEST + 1), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no YAML with sections: {error}") from error
    if not isinstance(tree, dict | None):
        raise UserError(f"{path} is no YAML with sections: it is a {type(tree).__name__}")
    section = (tree or {}).get("data")
    if not isinstance(section, dict) or "class_path" not in section:
        raise UserError(f"{path} has no data section with a class_path")
    return make_data(section, str(path), **changes)


def make_data(section: dict[str, Any], where: str = "the data section", **changes: Any) -> ClipData:
    """The data that a section ``{class_path, init_args}`` describes.

    Raises:
        UserError: classes from outside this package, or arguments that do not fit.
    """
    told = where.replace("{", "{{").replace("}", "}}")
    refused = f"{told} may name classes of vidssl only; got {{name!r}}"
    check_names(section, OURS, refused)
    given = section.get("init_args")
    if not isinstance(given, dict | None):
        raise UserError(f"{where} does not fit: init_args are names with values; got a {type(given).__name__}")
    section = {**section, "init_args": {**(given or {}), **changes}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ClipData, "data")
    try:
        with only(OURS):
            read = parser.parse_object({"data": section})
            check_names(read.as_dict(), OURS, refused, [value for value in changes.values() if isinstance(value, str)])
            return parser.instantiate_classes(read).data
    except UserError:
        raise
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"{where} does not fit: {' '.join(str(error).split())[:400]}") from error
