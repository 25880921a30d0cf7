"""Parts that know how they were made, so that a model can be written down and built again.

Every network part is a :class:`Part`: it remembers the arguments it was constructed with.
``spec_of(model)`` turns a tree of parts into plain JSON and ``build(spec)`` turns that back into a
model. Only the parts of this package can be named, each by the one name that ``spec_of`` gives it,
so a specification that came from somewhere else runs nothing but the constructors that are here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from typing import Any

from torch import nn

from vidssl.types import UserError

ALLOWED = ("vidssl.nets.", "vidssl.latents.", "vidssl.energy.")
LARGEST, DEEPEST, MOST = 1 << 20, 40, 20_000
"""A whole number in a specification, its levels and its values: more would keep a constructor busy for hours before anything can be compared with the weights."""


class Part(nn.Module):
    """A module that remembers its constructor's arguments. Abstract or final, like every class here.

    Arguments are parts, numbers, strings, None and lists of them, all named: ``*args`` and
    ``**kwargs`` could not be written down, so such a constructor is refused when the class is made.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        make = cls.__init__
        signature = inspect.signature(make)
        nameless = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
        assert not any(p.kind in nameless for p in signature.parameters.values()), f"{cls}: name every argument"

        @functools.wraps(make)
        def remember(self: Part, *args: Any, **kwargs: Any) -> None:
            if "_arguments" not in self.__dict__:  # the outermost constructor speaks for the object
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                arguments = dict(list(bound.arguments.items())[1:])
                object.__setattr__(self, "_arguments", arguments)
            make(self, *args, **kwargs)

        cls.__init__ = remember  # type: ignore[method-assign]


def spec_of(value: Any) -> Any:
    """Plain JSON for a part and all the parts it was made of; other values pass unchanged."""
    if isinstance(value, Part):
        arguments = {k: spec_of(v) for k, v in value.__dict__.get("_arguments", {}).items()}
        return {"class_path": _name(type(value)), "init_args": arguments}
    if isinstance(value, (list, tuple)):
        return [spec_of(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a part's arguments are parts, numbers, strings and lists of them; got {type(value)}")


def build(spec: Any) -> Any:
    """Build the model that `spec` describes.

    Raises:
        UserError: a class that is not a part of this package, or arguments that it does not take.
    """
    _check(spec, str(spec["class_path"])[:120] if isinstance(spec, dict) and "class_path" in spec else "a model")
    return _build(spec)


def _check(spec: Any, name: str) -> None:
    """Refuse what is too much, before anything is made; no recursion, for that has a limit of its own."""
    row, count = [spec], 0
    for _ in range(2 * DEEPEST):
        below: list[Any] = []
        for value in row:
            below += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
            if isinstance(value, int) and abs(value) > LARGEST:
                raise UserError(f"{name} cannot be built from the arguments in the file: its whole numbers are at most {LARGEST:,}, got one of {value.bit_length()} bits")
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} cannot be built from the arguments in the file: its numbers are finite, got {value}")
        count += len(row)
        if count > MOST:
            break
        if not below:
            return
        row = below
    raise UserError(f"a specification has at most {MOST:,} values in {DEEPEST} levels; this one has more: use another file")


def _build(spec: Any) -> Any:
    if isinstance(spec, list):
        return [_build(v) for v in spec]
    if spec is None or isinstance(spec, (bool, int, float, str)):
        return spec
    if not isinstance(spec, dict):
        raise UserError(f"a specification is plain JSON; got a {type(spec).__name__} in it")
    name, arguments = spec.get("class_path"), spec.get("init_args")
    if not isinstance(name, str) or not isinstance(arguments, dict) or len(spec) != 2:
        raise UserError(f"a specification has a class_path and init_args; this one has {sorted(map(str, spec))}")
    kind = part_of(name)
    try:
        parts = {k: _build(v) for k, v in arguments.items()}
        return kind(**parts)
    except UserError:
        raise
    except Exception as error:  # a constructor given nonsense may fail in any way, and that is the file's fault
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{name} cannot be built from the arguments in the file: {reason}") from error


def _name(kind: type) -> str:
    """The one name by which a specification means `kind`."""
    return f"{kind.__module__}.{kind.__qualname__}"


def part_of(name: str) -> type[Part]:
    """The part called `name`, which is looked up only below the packages of :data:`ALLOWED`.

    Raises:
        UserError: there is no such part.
    """
    if not name.startswith(ALLOWED):
        raise UserError(f"a specification names parts in {', '.join(ALLOWED)}; got {name!r}, which is not loaded")
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"there is no {name!r} in this version of vidssl; was the file written by another?") from error
    # What a module merely imported is not its part: nn.Linear must not pass as vidssl.nets.blocks.Linear.
    if not (inspect.isclass(kind) and issubclass(kind, Part) and _name(kind) == name):
        raise UserError(f"a specification names parts of vidssl; {name!r} is none")
    return kind
