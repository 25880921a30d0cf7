"""How much a model may be made of before it is known to fit its file: numbers, operations and modules.

A specification from elsewhere says a width of a million in seven characters. So while such a model is built, every operation is looked at before it
takes memory, and every module is counted; what exceeds the weights that came along is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from vidssl.types import UserError

SPARE = 1 << 24
"""Numbers that one tensor may have beyond its file, such as tables of positions."""
STEPS, MODULES = 20_000, 5_000
"""Operations and modules of a small model; a larger one may have some for each of its tensors."""
MOST, LONGEST = 1_000_000, 1 << 26
"""Values and characters of what a file records."""


class Room(TorchFunctionMode):
    """Within it nothing larger is made than weights of `numbers` numbers in `tensors` tensors explain.

    Raises:
        UserError: from the operation or the module that would be too much, before memory is taken.
    """

    def __init__(self, numbers: int, tensors: int, source: str) -> None:
        super().__init__()
        self.source, self.numbers = source, numbers + SPARE
        self.total, self.steps, self.modules = 16 * self.numbers, STEPS + 100 * tensors, MODULES + 20 * tensors

    def __enter__(self) -> Room:
        self.hook = register_module_module_registration_hook(self._registered)
        self.graded = torch.is_grad_enabled()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.hook.remove()
        super().__exit__(*error)
        torch.set_grad_enabled(self.graded)  # what is refused within no_grad, whose end is an operation too, would leave all that follows without gradients

    def _registered(self, owner: nn.Module, name: str, module: nn.Module | None) -> None:
        self.modules -= 1
        self._refuse(self.modules < 0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        size = _size(name, [*args, *kwargs.values()])
        self.steps, self.total = self.steps - 1, self.total - (0 if name.endswith("_") else size)  # those write into what is there, or look at it
        self._refuse(size > self.numbers or self.steps < 0 or self.total < 0)
        return func(*args, **kwargs)

    def _refuse(self, much: bool) -> None:
        if much:
            raise UserError(f"a model is about as large as its weights; what {self.source} describes is far larger than its file: use another file")


SHAPED = {"new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided", "expand"}
TIMES = {"repeat", "tile", "repeat_interleave", "one_hot"}
PAIRS = {"outer", "ger", "cartesian_prod", "meshgrid", "kron", "cdist", "einsum", "tensordot", "matmul", "mm", "bmm", "eye"}


def _size(name: str, args: list[Any]) -> int:
    """The most numbers that the operation `name` makes of `args`: those of a shape, of tensors side by side, of their broadcast or of their pairs."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    lists = [value for value in args if isinstance(value, list | tuple) and value]
    tensors += [each for value in lists for each in value if isinstance(each, Tensor)]
    most = sum(each.numel() for each in tensors)
    if not tensors or name in SHAPED | TIMES:
        loose = [value for value in args if type(value) is int]
        shapes = [value for value in lists if all(type(each) is int for each in value)]
        asked = max([_product(loose), *map(abs, loose), *map(_product, shapes)])
        most = max(most, asked * max(1, most) if name in TIMES else asked)
    try:
        most = max(most, _product(torch.broadcast_shapes(*(each.shape for each in tensors))))
    except RuntimeError:  # an operation that does not broadcast
        pass
    if name in PAIRS and not _fits(tensors):
        most = max(most, _product([each.numel() for each in tensors]))
    return most ** (1 + (name == "eye"))


def _fits(tensors: list[Tensor]) -> bool:
    """Whether these are the two matrices of a product, whose result has the rows of one and the columns of the other."""
    return len(tensors) == 2 and min(each.ndim for each in tensors) > 1 and tensors[0].shape[-2] * tensors[1].shape[-1] <= sum(each.numel() for each in tensors)


def _product(sizes: Any) -> int:
    made = 1
    for size in sizes:
        made *= abs(int(size))
    return made


def numbers(tensors: Any) -> int:
    """Numbers that tensors really hold: one number can be shown as a tensor of any shape."""
    stores = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() // value.element_size() for value in tensors if ordinary(value)}
    return sum(stores.values())


def ordinary(value: Any) -> bool:
    """Whether `value` is a dense tensor in memory that has as many numbers as its shape says."""
    if not isinstance(value, Tensor) or type(value) not in (Tensor, nn.Parameter) or value.layout is not torch.strided:
        return False
    return not value.is_nested and not value.is_quantized and value.device.type == "cpu" and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def bounded(value: Any) -> bool:
    """Whether a tree of plain values is small when it is written out: lists in a pickle may hold one another many times over."""
    stack, count, length = [value], 1, 0
    while stack:
        each = stack.pop()
        if isinstance(each, dict | list | tuple):
            count += 2 * len(each)
            if count > MOST:
                return False
            stack += [*each.keys(), *each.values()] if isinstance(each, dict) else each
        elif isinstance(each, str | bytes):
            length += len(each)
        elif isinstance(each, int):
            length += each.bit_length() // 3
        if length > LONGEST:
            return False
    return True
