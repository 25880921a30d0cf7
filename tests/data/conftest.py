"""What the tests of data share: files of every kind, the truth about them, and a cache of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from video_files import sequential, write


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a kind's name to its file, written once a session."""
    made: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("kinds")

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = write(folder, kind)
        return made[kind]

    return get


@pytest.fixture(scope="session")
def truth() -> Callable[[Path], list[np.ndarray]]:
    """The function :func:`sequential`."""
    return sequential


@pytest.fixture
def odd() -> Path:
    """A folder of real files that break loaders; skips where it is not."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "odd"
    if not folder.is_dir():
        pytest.skip("the folder of odd files is not here")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are remembered in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
