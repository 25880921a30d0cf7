"""No class-typed parameter has a default that is a class or an object.

jsonargparse hands the arguments of such a default on to whatever class a configuration chooses instead: Adam
chosen where AdamW was the default trains with AdamW's weight decay.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import vidssl

PLAIN = (bool, int, float, str, bytes, type(None))


def plain(value: object) -> bool:
    """A number, a string, None, or a tuple or list of them."""
    if isinstance(value, tuple | list):
        return all(plain(v) for v in value)
    return isinstance(value, PLAIN)


def classes() -> Iterator[type]:
    """Every class of the package that has a constructor of its own."""
    for found in pkgutil.walk_packages(vidssl.__path__, "vidssl."):
        module = importlib.import_module(found.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and "__init__" in vars(kind) and not dataclasses.is_dataclass(kind):
                yield kind


@pytest.mark.parametrize("kind", list(classes()), ids=lambda k: k.__qualname__)
def test_defaults_are_plain(kind: type) -> None:
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert plain(parameter.default), f"{kind.__qualname__}({name}=...) has the default {parameter.default!r}: make it required, or None"


def test_the_rule_would_notice() -> None:
    assert not plain(int) and not plain(object()) and not plain((1, object())) and plain((0.5, None, "a"))
