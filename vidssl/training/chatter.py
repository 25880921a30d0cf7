"""What Lightning says about things that are meant to be as they are, and nobody needs to read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

CHATTER = (  # warnings about what is meant to be so
    r"LightningCLI's args parameter",
    r"`isinstance\(treespec, LeafSpec\)`",
    r"You have overridden `\w+` in `LightningModule` but",
    r"The number of training batches .* is smaller than the logging interval",
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the batch order knows its place
    r"Checkpoint directory .* exists and is not empty",
    r"The dirpath has changed",
    r"The '\w+' does not have many workers",
    r"The `srun` command is available",
    r"Grad strides do not match bucket view strides",  # weights of one row
    r"find_unused_parameters=True was specified in DDP constructor",  # most methods have none
)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the chatter; other warnings are shown."""
    with warnings.catch_warnings():
        for pattern in CHATTER:
            warnings.filterwarnings("ignore", pattern)
        for source in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(source).setLevel(logging.WARNING)
        yield
