"""What is wrong with a configuration, in one line: jsonargparse quotes whole trees around the cause."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re

from lightning.pytorch import Trainer

from vidssl.types import UserError

LONGEST = 300
CAUSES = (  # what jsonargparse says, the likeliest cause first, and what we say
    (r"Importing '([^']{1,120})[^']*' is not allowed", "{0!r} may not be named: if you trust it, add --allow_class_path and its package"),
    (r"Key \"?'?([\w.]+)'?\"? is required", "{0!r} is missing"),
    (r"Expected '([^']+)' to be a subclass of <class '([^']+)'>", "{0!r} is no {1}"),
    (r"Import path (\S+) does not correspond to a subclass of (\w+)", "{0!r} is no {1}"),
    (r"module '([^']+)' has no attribute '([^']+)'", "there is no {1!r} in {0}"),
    (r"No module named '([^']+)'", "there is no module {0!r}"),
    (r"Expected an? <class '([^']+)'>\.? Got value: (\S{1,80})", "a value of type {0} is needed; got {1!r}"),
    (r"Errors: - Expected an? <class '([^']+)'>.*Given value: (\S{1,80}?)\.? ", "a value of type {0} is needed; got {1!r}"),
    (r"Expected a dot import path string: (\S{1,80})", "{0!r} is not the full path of a class"),
)


def refusal(error: BaseException | None) -> UserError | None:
    """What one of our own refused, which jsonargparse wraps in errors of its own; None where it was nothing of the kind."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def complaint(message: str) -> str:
    """The key and the cause in a message of jsonargparse's.

    A misspelt key is named with what the class takes instead.
    """
    message = " ".join(message.split()) + " "
    keys = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    where = f"{keys}: " if keys else ""
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        owners = re.findall(r"given class_path '([^']+)'", message[: found.start()])
        return where + (_misspelt(found[1], owners[-1]) if owners else f"there is no {found[1]!r}")
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return _misspelt(found[2], "trainer") if found[1] == "trainer" else f"there is no '{found[1]}.{found[2]}'"
    for pattern, words in CAUSES:
        if found := re.search(pattern, message):
            return where + words.format(*found.groups())
    return message.strip()[:LONGEST]


def _misspelt(name: str, owner: str) -> str:
    """Say what `owner`, a class that the parser has already imported, takes instead of `name`."""
    module, _, attribute = owner.rpartition(".")
    kind = Trainer if owner == "trainer" else getattr(importlib.import_module(module), attribute)
    takes = [p for p in inspect.signature(kind.__init__).parameters if p != "self"]
    near = difflib.get_close_matches(name.split(".")[0], takes, 1)
    remedy = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(takes[:12])}"
    return f"{kind.__name__} takes no {name!r}; {remedy}"
