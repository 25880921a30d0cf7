"""Models too large for one device: weights, gradients, the optimiser's memory and the averages of weights are shared out among processes (FSDP2).

``vidssl fit --trainer.strategy sharded --trainer.devices 8``. Each process keeps some rows of every weight. Blocks with many weights are
gathered by themselves, each while it runs; all other weights for the whole step, since energies are called by many names and forward hooks see
only one. Gradients are means over processes, as everywhere. Frozen weights (slow copies, teachers) and buffers stay whole on each process.
Checkpoints are folders in pieces (:mod:`vidssl.pieces`), which any number of processes opens, one included.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from vidssl.latents.erasure import Erasure
from vidssl.latents.search.base import Search
from vidssl.nets.gather import world
from vidssl.objectives.base import Reclustered
from vidssl.objectives.chains import Chains
from vidssl.pieces import read_folder
from vidssl.training.sharded_files import Unwritten, placed, replaced, save_folder
from vidssl.types import UserError

STEPS = ("training_step", "validation_step")
REMEDY = "train it with trainer.strategy ddp, which has all weights on each device"


class Sharded(ModelParallelStrategy):
    """Shares a model out among all processes of a run; see the head of this file.

    Args:
        least: weights that a block must have to be gathered by itself; fewer such blocks mean more memory and less waiting.
        timeout: seconds that a silent process is waited for; `vidssl fit` puts its own --timeout here.
    """

    def __init__(self, least: int = 1_000_000, timeout: float = 600.0) -> None:
        super().__init__(timeout=timedelta(seconds=timeout))
        if least < 1:
            raise UserError(f"a block has 1 weight or more; got least {least}")
        self.least = least

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Optimisers are restored as everywhere; :meth:`load_checkpoint` has put their tensors in place."""
        return True

    def setup_environment(self) -> None:
        """All processes share the data and the weights alike."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def shard(self, task: nn.Module) -> None:
        """Share out the weights of `task`, once.

        Raises:
            UserError: what cannot be trained so.
        """
        if isinstance(next(iter(task.parameters())), DTensor):
            return
        check(task)
        if getattr(self.precision_plugin, "scaler", None) is not None:
            raise UserError("losses are not scaled where weights are shared out; got trainer.precision 16-mixed: use bf16-mixed or 32-true")
        try:
            share_out(task, self.device_mesh["data_parallel"], None if slopes(task) else self.least)
        except (ValueError, NotImplementedError) as error:
            raise UserError(f"the model cannot be shared out ({' '.join(str(error).split())[:200]}): {REMEDY}") from error

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """A step that begins with the first process's buffers on all, as with DDP."""
        if world() > 1:
            for buffer in self.model.buffers():
                sent = buffer.detach().contiguous()
                dist.broadcast(sent, 0)
                if sent.data_ptr() != buffer.data_ptr():
                    buffer.data.copy_(sent)
        return super().training_step(*args, **kwargs)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Weights as they are, not put together."""
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """An optimiser's state by number of parameter, as in a run of one process, not put together."""
        return getattr(optimizer, "_optimizer", optimizer).state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """As everywhere."""
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """As everywhere."""
        super(ModelParallelStrategy, self).load_optimizer_state_dict(checkpoint)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write a folder in pieces. Where that fails, as on a full disk, what was there stays, a warning says so, and the run goes on.

        Raises:
            UserError: weights that are not finite.
        """
        try:
            save_folder(checkpoint, filepath)
        except Unwritten as error:
            if self.is_global_zero:
                warnings.warn(f"{error}, and training goes on", stacklevel=2)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a folder in pieces or a single file, tensors and plain values only; of sharded tensors this process's rows.

        Raises:
            UserError: missing, truncated, altered, or not of vidssl.
        """
        path, place = Path(self.broadcast(str(checkpoint_path))), placed(self.lightning_module, self.optimizers)
        if path.is_dir():
            return read_folder(path, place, (self.global_rank, self.world_size))
        return replaced(self.checkpoint_io.load_checkpoint(path), place)


for name in ("sharded", f"{Sharded.__module__}.{Sharded.__name__}".lower()):  # a path without arguments is a mere name to Lightning, and that in small letters
    if name not in StrategyRegistry:
        StrategyRegistry.register(name, Sharded, "weights, gradients and the optimiser's memory are shared out among processes")


def check(task: nn.Module) -> None:
    """Refuse what writes to weights outside of the optimiser, which sharing out would undo without a word.

    Raises:
        UserError: naming it.
    """
    if isinstance(task.objective, Reclustered):
        raise UserError(f"{type(task.objective).__name__} begins its head anew at each clustering, which weights that are shared out do not allow: {REMEDY}")
    for module in task.modules():
        if isinstance(module, Erasure):
            raise UserError(f"{type(module).__name__} holds its chances within bounds by hand, which weights that are shared out do not allow: {REMEDY}")
        if module._compiled_call_impl is not None:
            raise UserError(f"torch.compile does not go with weights that are shared out; {type(module).__name__} is compiled: set model.compile to false")


def slopes(task: nn.Module) -> bool:
    """Whether gradients are taken within a step: by a critic, a search for z or chains. A block that is gathered by itself knows one backward pass, that of the step."""
    return task.objective.opponent(task.energy) is not None or any(isinstance(module, (Search, Chains)) for module in task.modules())


def share_out(task: nn.Module, mesh: DeviceMesh, least: int | None) -> None:
    """Make `task` keep on each process of `mesh` its rows of the weights that learn.

    Args:
        task: whose steps see whole weights.
        mesh: of one axis.
        least: weights of a block that is gathered by itself; None for no such blocks.

    Raises:
        UserError: at the first step, if it writes to weights.
    """
    frozen = {p for p in task.parameters() if not p.requires_grad}
    for parameter in task.parameters():
        if parameter not in frozen:
            parameter.data = parameter.data.contiguous()  # what is shared out are rows
    taken = set(frozen)
    for block in blocks(task) if least is not None else ():
        free = {p for p in block.parameters() if p not in taken}
        if sum(p.numel() for p in free) >= least:
            fully_shard(block, mesh=mesh, ignored_params=frozen)
            taken |= free
    for name in STEPS:
        setattr(task, name, _untouched(task, getattr(task, name)))
    fully_shard(task, mesh=mesh, ignored_params=frozen)
    for name in STEPS:
        register_fsdp_forward_method(task, name)


def blocks(task: nn.Module) -> list[nn.Module]:
    """What stands in lists and sequences, and so is run through its forward alone; inner ones first."""
    found = [child for module in task.modules() if isinstance(module, (nn.ModuleList, nn.Sequential)) for child in module]
    order = {module: number for number, module in enumerate(task.modules())}
    return sorted((m for m in set(found) if not isinstance(m, (nn.ModuleList, nn.ModuleDict))), key=lambda m: -order[m])


def _untouched(task: nn.Module, step: Any) -> Any:
    """The step, which is refused if it writes to gathered weights: these are copies, and what is written there is lost."""

    def versions() -> list[tuple[str, int]]:
        return [(name, p._version) for name, p in task.named_parameters() if p.requires_grad and not isinstance(p, DTensor)]

    @wraps(step)
    def watched(*args: Any, **kwargs: Any) -> Tensor | None:
        before = versions()
        made = step(*args, **kwargs)
        for (name, old), (_, new) in zip(before, versions()):
            if old != new:
                raise UserError(f"a step that writes to weights itself does not go with weights that are shared out; this one wrote to {name!r}: {REMEDY}")
        return made

    return watched
