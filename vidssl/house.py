"""Where the shipped files are: configurations, data-set cards and tools, cloned or installed."""

from __future__ import annotations

from pathlib import Path

from vidssl.types import UserError

PACKAGE = Path(__file__).resolve().parent
ROOMS = {"configs": "configs", "tools": "tools", "datasets": "cards"}


def room(name: str) -> Path:
    """The folder `configs`, `tools` or `datasets`: inside the package when installed, beside it when cloned."""
    inside = PACKAGE / ROOMS[name]
    return inside if inside.is_dir() else PACKAGE.parent / name


def find_config(name: str | Path) -> Path:
    """A configuration by path, or by its path below the shipped `configs/`, with or without ``.yaml``.

    Raises:
        UserError: when there is no such file.
    """
    shipped = room("configs")
    for base in (Path(), shipped, shipped / "recipes"):
        for path in (base / name, base / f"{name}.yaml"):
            if path.is_file():
                return path
    known = sorted(str(p.relative_to(shipped)) for p in shipped.rglob("*.yaml"))
    raise UserError(f"a configuration is a YAML file or a shipped name; {str(name)!r} is neither. Shipped: {', '.join(known)}")
