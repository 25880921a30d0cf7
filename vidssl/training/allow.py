"""Whose classes a configuration may name.

A configuration is code: naming a class runs its constructor, and a downloaded configuration is somebody else's code.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vidssl.types import UserError

ALLOWED = ("vidssl", "torch", "torchvision", "lightning")


def check_file(config: Path, allowed: tuple[str, ...]) -> None:
    """Refuse a file that names a class from elsewhere, before anything that it names is imported.

    Raises:
        UserError: a class path outside `allowed`, or a file that is no YAML with sections.
    """
    try:
        tree = yaml.safe_load(config.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{str(config)!r} is no YAML: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"a configuration has sections such as trainer, model and data; {str(config)!r} has none")
    check_tree(tree, allowed, str(config))


def check_tree(tree: Any, allowed: tuple[str, ...], source: str) -> None:
    """Refuse a tree of settings that names a class or a function from elsewhere.

    A tree that jsonargparse has read holds functions themselves where the file gave only their names, and it holds
    the contents of files that the first one included; so it is checked once more, before anything is made of it.

    Raises:
        UserError: see :func:`check_file`.
    """
    for name in _named(tree):
        if name.split(".")[0] not in allowed:
            raise UserError(
                f"a configuration names classes of {', '.join(allowed)}; {source} names {name!r}: "
                f"if you trust it, add --allow_class_path {name.split('.')[0]}"
            )


def _named(node: Any) -> Iterator[str]:
    """Full names of the classes and functions in a tree."""
    if isinstance(node, dict):
        path = node.get("class_path")
        if isinstance(path, str) and "." in path:  # a bare name can only mean a class that is already known
            yield path
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from _named(value)
    elif isinstance(node, functools.partial):
        yield from _named([node.func, node.args, node.keywords])
    elif inspect.isclass(node) or inspect.isroutine(node):
        yield f"{node.__module__}.{node.__qualname__}"
