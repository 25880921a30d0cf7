"""What a configuration may name, and how its text is read.

A configuration is code: naming a class runs its constructor, and a downloaded configuration is somebody else's code. So a name is looked at before
anything is imported, once more by jsonargparse at the moment of the import (:func:`only`, which also sees names within strings and included files, and
under which name a thing was really defined), and once more when the whole configuration is known.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jsonargparse
import yaml

from vidssl.types import UserError

OURS = ("vidssl",)
NEVER = ("lightning.pytorch.plugins.io",)
"""Below what is allowed, and yet refused: other readers of checkpoints, which would unpickle whatever a file holds."""
LONGEST, DEEPEST, MOST = 1 << 20, 50, 50_000
"""Characters of a configuration, its levels, and its values, each alias counted as what it stands for."""

ACTIVE: list[tuple[str, ...]] = []
"""What :func:`only` was entered with, the innermost last: jsonargparse's settings are those of the process."""


def read_yaml(text: str, source: str) -> Any:
    """Plain values from YAML.

    Raises:
        UserError: no YAML, one that names objects, or one that unfolds to more than the caps.
    """
    try:
        bounded(text)
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:  # of odd numbers and dates
        raise UserError(f"{source} is no YAML of plain values: {' '.join(str(error).split())[:300]}") from error


class Unfolds(yaml.YAMLError):
    """More than the caps."""


def bounded(text: str) -> None:
    """Refuse, while it is read piece by piece, YAML that would unfold to more than the caps: an alias of aliases doubles with every line.

    Raises:
        Unfolds: more than :data:`LONGEST`, :data:`DEEPEST` or :data:`MOST`, or an alias within what it stands for.
        yaml.YAMLError: no YAML at all.
    """
    if len(text) > LONGEST:
        raise Unfolds(f"a configuration has at most {LONGEST:,} characters; this one has {len(text):,}")
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchors of the collections around, and values before them
    count = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise Unfolds(f"the alias {event.anchor!r} stands for nothing before it")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            sizes.pop(event.anchor, None)  # type: ignore[arg-type]
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if count > MOST or len(open_) > DEEPEST:
            raise Unfolds(f"a configuration has at most {MOST:,} values in {DEEPEST} levels; this one has more")


@contextmanager
def only(allowed: tuple[str, ...]) -> Iterator[None]:
    """While a configuration is read, jsonargparse imports what is below `allowed` and nothing else, and refuses YAML beyond the caps.

    Raises:
        UserError: an entry of `allowed` that is no dotted name.
    """
    for entry in allowed:
        if not all(part.isidentifier() for part in entry.split(".")):
            raise UserError(f"a package is given by its dotted name; got {entry!r}")
    load = jsonargparse.get_loader("yaml")

    def capped(stream: str) -> Any:
        bounded(stream)
        try:
            return load(stream)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise yaml.YAMLError(f"no plain value: {error}") from error

    jsonargparse.set_loader("yaml", capped, (yaml.YAMLError,))
    # what a value of any type names stays a name: it is made into nothing
    jsonargparse.set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=["*", *NEVER], import_path_allowlist=list(allowed))
    ACTIVE.append(allowed)
    try:
        yield
    finally:
        ACTIVE.pop()
        jsonargparse.set_parsing_settings(import_path_denylist=list(allowed))
        jsonargparse.set_parsing_settings(import_path_allowlist=[entry for outer in ACTIVE[-1:] for entry in outer])
        jsonargparse.set_loader("yaml", load, (yaml.YAMLError,))


def check_names(tree: Any, allowed: tuple[str, ...], refused: str, own: Collection[str] = ()) -> None:
    """Refuse a tree of settings that names what is not below `allowed`, or a function in place of a class, or an address.

    A tree that jsonargparse has read holds functions themselves where the file gave only their names, and it holds the contents of files that the
    first one included; so it is checked before and after.

    Args:
        tree: of plain values.
        allowed: packages and modules.
        own: addresses that the user gave beside the file.
        refused: the message, with ``{name}`` for what is named and ``{package}`` for the package it is in.

    Raises:
        UserError: with that message; or of an address; or of a tree that is deeper than :data:`DEEPEST`.
    """
    for name, value in _named(tree, 0):
        if value == "text":  # where a number or a class is wanted, jsonargparse reads a text as YAML of its own
            _bounded_within(name, 0)
            continue
        if value == "address":
            if name in own and "::" not in name:  # which chains one reader behind another
                continue
            raise UserError(f"a configuration names files of this machine and no addresses; got {name[:80]!r}: leave it out, or give it on the command line")
        if not _below(name, allowed) or _below(name, NEVER):
            raise UserError(refused.format(name=name[:120], package=name.split(".")[0][:40]))
        if value == "class" and (found := _loaded(name)) is not None:
            if not inspect.isclass(found):
                raise UserError(f"a configuration names classes; {name[:120]!r} is a {type(found).__name__}: name a class")
            if not _below(full := f"{found.__module__}.{found.__qualname__}", allowed) or _below(full, NEVER):
                raise UserError(refused.format(name=full[:120], package=full.split(".")[0][:40]))
        if value == "function":
            raise UserError(f"a configuration names classes; {name[:120]!r} is a function, which would be run: leave it out")


def _bounded_within(text: str, depth: int) -> None:
    """Refuse a text that would unfold to more than the caps, or one within it."""
    if not any(sign in text for sign in "&[{\n"):
        return
    try:
        bounded(text)
        inner = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except Unfolds as error:
        raise UserError(f"a text in a configuration is too much when it is read as YAML: {error}: leave it out") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        return  # plain text
    row = [inner]
    while row:
        value = row.pop()
        row += [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        if isinstance(value, str) and value != text and depth < DEEPEST:
            _bounded_within(value, depth + 1)


def _below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _named(node: Any, depth: int) -> Iterator[tuple[str, str]]:
    """Full names in a tree, and whether they name a class, a function or an address; and all texts."""
    if depth > 2 * DEEPEST:
        raise UserError(f"a configuration has at most {DEEPEST} levels; this one has more: make it flat")
    if isinstance(node, dict):
        path = node.get("class_path")
        if isinstance(path, str) and "." in path:  # a bare name can only mean a class that is already known
            yield path, "class"
        node = [*node.keys(), *node.values()]
    if isinstance(node, list | tuple):
        for value in node:
            yield from _named(value, depth + 1)
    elif isinstance(node, str):
        yield node, "address" if "://" in node or "::" in node else "text"
    elif isinstance(node, partial):
        yield from _named([node.func, node.args, node.keywords], depth + 1)
    elif inspect.isclass(node):
        yield f"{node.__module__}.{node.__qualname__}", "class"
    elif inspect.isroutine(node):
        yield f"{node.__module__}.{node.__qualname__}", "function"


def _loaded(name: str) -> Any:
    """What is called `name` among modules that are loaded; None for what is not."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        if (found := sys.modules.get(".".join(parts[:cut]))) is not None:
            for part in parts[cut:]:
                found = getattr(found, part, None)
            return found
    return None
