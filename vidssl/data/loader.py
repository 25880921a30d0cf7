"""A loader whose patience holds: torch's own waits for a message from its processes, and without an end for a tensor that a stopped one does not hand over."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

GRACE = 5.0
"""Seconds after which the processes are ended, should torch's own timeout not have been enough."""


class PatientLoader(DataLoader):
    """A DataLoader that ends its processes when no batch has come for `timeout` seconds, which ends the wait by an error."""

    def __iter__(self) -> Iterator[Any]:
        """Batches; the processes begin at once."""
        batches = super().__iter__()
        return self._patiently(batches) if self.num_workers else batches

    def _patiently(self, batches: Any) -> Iterator[Any]:
        while True:
            timer = threading.Timer(self.timeout + GRACE, _end, [batches._workers, self.timeout])
            timer.daemon = True
            timer.start()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                timer.cancel()
            yield batch


def _end(workers: list[BaseProcess], timeout: float) -> None:
    warnings.warn(f"a process that loads clips gave no batch in time ({timeout:g} s): such processes are ended", stacklevel=2)
    for worker in workers:
        worker.kill()  # a stopped one hears nothing else
