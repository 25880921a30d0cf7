"""The order of clips, as a pure function of (seed, epoch), and the place in it, counted and never saved.

A sampler that asks how many batches the run has trained on, each time it is iterated, needs no state in a checkpoint:
a run that goes on in the middle of an epoch gets the rest of that epoch, and then the right next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch.distributed as dist

from vidssl.types import UserError


class BatchOrder:
    """Batches of (epoch, index), shuffled anew every epoch; what is left over at an epoch's end is left out.

    Rank r of w takes rows r, r + w, ... of each global batch, so the clips of a step do not depend on w.

    Args:
        clips: how many there are.
        batch_size: of the global batch, over all ranks.
        seed: of the order.
        trained: batches that the whole run has trained on; asked at each iteration.

    Raises:
        UserError: fewer clips than a batch, or a batch that ranks cannot share equally.
    """

    def __init__(self, clips: int, batch_size: int, seed: int, trained: Callable[[], int]) -> None:
        if clips < batch_size:
            raise UserError(f"training needs at least one batch of clips; got {clips} clips for batch_size {batch_size}: lower batch_size or add videos")
        distributed = dist.is_available() and dist.is_initialized()
        self.world = dist.get_world_size() if distributed else 1
        self.rank = dist.get_rank() if distributed else 0
        if batch_size % self.world:
            raise UserError(f"batch_size counts the clips of all processes; {batch_size} is no multiple of {self.world} processes: change it")
        self.clips, self.batch_size, self.seed, self.trained = clips, batch_size, seed, trained

    def __len__(self) -> int:
        """Batches in a whole epoch, also when only the rest of one is to come: Lightning counts those done itself."""
        return self.clips // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The rest of the current epoch."""
        epoch, start = divmod(self.trained(), len(self))
        order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.clips)
        for b in range(start, len(self)):
            rows = order[b * self.batch_size : (b + 1) * self.batch_size][self.rank :: self.world]
            yield [(epoch, int(i)) for i in rows]
