"""What several processes decide together: they stop at the same step, whichever of them was told to."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist

from vidssl.nets.gather import world


class Agreement:
    """A question that all processes put to each other once a step, between their hosts, so that no device is waited for.

    An answer is collected at the next question: by then it has long arrived.

    Args:
        timeout: seconds that a silent process is waited for.
    """

    def __init__(self, timeout: float) -> None:
        self.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout)) if world() > 1 else None
        self.asked: tuple[torch.Tensor, dist.Work] | None = None

    def any(self, yes: bool) -> bool:
        """Whether any process said yes: to this question in one process, to the one before it in several. Called equally often by all."""
        if self.group is None:
            return yes
        before, said = self.asked, torch.tensor([int(yes)])
        self.asked = said, dist.all_reduce(said, dist.ReduceOp.MAX, group=self.group, async_op=True)
        if before is None:
            return False
        before[1].wait()
        return bool(before[0])
