"""Progress bars and tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table


def bar(items: Iterable, total: int, what: str) -> Iterable:
    """Iterate with a bar that names what is counted."""
    return track(items, description=what, total=total, console=Console(stderr=True))


@contextmanager
def meter() -> Iterator[Callable[[str, float], None]]:
    """A bar for work that is measured and not counted: call what it yields with the work's name and the share that is done."""
    with Progress(console=Console(stderr=True)) as shown:
        task = shown.add_task("", total=1.0)
        yield lambda what, share: shown.update(task, description=what, completed=share)


def table(title: str, rows: list[Mapping[str, Any]]) -> None:
    """Print rows of the same keys as a table; numbers are rounded to four digits."""
    made = Table(title=title)
    for key in rows[0]:
        made.add_column(key)
    for row in rows:
        made.add_row(*[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()])
    Console().print(made)
