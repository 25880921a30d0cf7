"""How long a depthwise convolution takes on one CPU thread, torch's own and :class:`vidssl.nets.depthwise.DepthwiseConv` in turn: the least CPU time of 20.

    python docs/results/speed/depthwise.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vidssl.nets.depthwise import DepthwiseConv

MAPS = ((64, 48, 4, 4), (48, 48, 6, 6), (64, 64, 8, 8), (16, 64, 16, 16))


def least(work: Callable[[], object]) -> float:
    """Milliseconds of CPU."""
    found = []
    for _ in range(20):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return 1e3 * min(found)


def step(conv: nn.Module, h: Tensor) -> Callable[[], object]:
    """One pass forward and its gradients."""
    return lambda: torch.autograd.grad(conv(h).sum(), (h, *conv.parameters()))


def main() -> None:
    """Print a row for each map."""
    torch.set_num_threads(1)
    for shape in MAPS:
        h, width = torch.randn(shape, requires_grad=True), shape[1]
        theirs, ours = nn.Conv2d(width, width, 7, padding=3, groups=width), DepthwiseConv(width, 7)
        first, second = least(step(theirs, h)), least(step(ours, h))
        print(f"{' x '.join(map(str, shape))}: torch {first:.2f} ms, here {second:.2f} ms, {first / second:.1f} times as fast")


if __name__ == "__main__":
    main()
