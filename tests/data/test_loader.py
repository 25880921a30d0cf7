"""A loader's process that hangs ends the wait, whatever it hangs in."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from vidssl.data import loader
from vidssl.data.dataset import ClipDataset, whole
from vidssl.data.loader import PatientLoader
from vidssl.types import Batch


class Stopping(ClipDataset):
    """A process that reads the third clip stops."""

    def __len__(self) -> int:
        return 4

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        if indices == [2]:
            os.kill(os.getpid(), signal.SIGSTOP)
        return Batch(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8), torch.tensor(indices))


@pytest.mark.slow
def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here before torch's own timeout, which does not see a process that hangs while it hands a batch over."""
    monkeypatch.setattr(loader, "GRACE", -55.0)
    batches = iter(PatientLoader(Stopping(), num_workers=1, timeout=60, collate_fn=whole, multiprocessing_context="fork"))
    with pytest.warns(UserWarning, match="no batch in time"), pytest.raises((RuntimeError, ConnectionError, EOFError)):
        for _ in range(3):  # the first two may have been read, and not yet been handed over
            next(batches)
    assert not [entry for entry in Path("/proc").glob("[0-9]*/stat") if f") T {os.getpid()} " in _read(entry)], "one is left stopped"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
