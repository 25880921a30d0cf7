"""Weights that processes share out: they learn what one process learns, and their checkpoints open everywhere."""

from __future__ import annotations

import importlib.util
import os
import resource
import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.loggers import TensorBoardLogger
from models import clips, model
from runs import CONTEXT, LIMIT
from torch.distributed.tensor import DTensor

from vidssl.export.load import load_energy
from vidssl.objectives.base import Reclustered
from vidssl.objectives.limited import LimitedLatent
from vidssl.pieces import read_folder, verify_folder
from vidssl.training.sharded import Sharded, blocks, check, slopes
from vidssl.training.sharded_files import Unwritten, save_folder
from vidssl.training.task import PredictionTask
from vidssl.training.watch import Watch
from vidssl.types import Batch, Moment, StepOutput, UserError

spec = importlib.util.spec_from_file_location("small_runs", Path(__file__).with_name("conftest.py"))  # new processes have no pytest to load it
small_runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small_runs)
Run = small_runs.Run

STEPS, HALF = 8, 4
LEAST = 1000
"""So that blocks of the small model are gathered by themselves, too."""
CLOSE = 1e-4
"""How far weights may be apart: after 8 steps of 1e-2, and roundings apart."""


def together(name: str, folder: Path, world: int) -> list[dict[str, Any]]:
    """What the function `name` of this file gives in each of so many processes, which are forked from one that has imported everything."""
    told = [{"TOLD": (rank, world, str(folder), name)} for rank in range(world)]
    processes = [CONTEXT.Process(target=runpy.run_path, args=(__file__, each, "together")) for each in told]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
    for process in processes:
        process.kill()
    assert [process.exitcode for process in processes] == [0] * world
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(world)]


def go(rank: int, world: int, folder: str, name: str) -> None:
    """Be one of them."""
    torch.set_num_threads(1)
    os.environ["SHARDED_TEST"] = folder
    dist.init_process_group("gloo", init_method=f"file://{folder}/{name}-meet", rank=rank, world_size=world)
    torch.save(globals()[name](rank, world), f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


class Writes(LimitedLatent):
    """An objective that writes to a weight."""

    def loss(self, energy: Any, batch: Batch, moment: Moment) -> StepOutput:
        """The loss, after a weight was halved."""
        with torch.no_grad():
            energy.decoder.paint.bias.mul_(0.5)
        return super().loss(energy, batch, moment)


class Remembers(LimitedLatent):
    """An objective with a buffer that is each process's own: the loss of the last step."""

    def __init__(self) -> None:
        super().__init__(96)
        self.register_buffer("last", torch.zeros(()))
        self.found: list[float] = []

    def loss(self, energy: Any, batch: Batch, moment: Moment) -> StepOutput:
        """The loss, remembered."""
        out = super().loss(energy, batch, moment)
        if energy.training:
            self.found.append(float(self.last))
            self.last.copy_(out.loss.detach())
        return out


def started(name: str, steps: int = STEPS, *callbacks: Any, **options: Any) -> Run:
    """A run in the folder `name` of this test, of one process or, with Sharded, of several."""
    usual = {"every": HALF, "latent": "gaussian_learned", "gradient_clip_val": 1.0, "val_check_interval": 5}
    return Run(Path(os.environ["SHARDED_TEST"]) / name, steps, callbacks, **(usual | options))


def sharded(rank: int, world: int, name: str, steps: int = STEPS, *callbacks: Any, **options: Any) -> Run:
    """The same run with weights that are shared out."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    warnings.simplefilter("ignore")
    return started(name, steps, *callbacks, strategy=Sharded(LEAST), devices=world, **options)


def end(run: Run) -> dict[str, Any]:
    """What a run did and ended with, put together."""
    weights = {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in run.weights().items()}
    return {"losses": run.record.losses, "validations": run.record.validations, "weights": weights}


def two(rank: int, world: int) -> dict[str, Any]:
    """Everything that is tested with two processes."""
    folder = Path(os.environ["SHARDED_TEST"])
    whole = sharded(rank, world, "two", STEPS, Watch(clips=1, futures=2), logger=TensorBoardLogger(folder / f"logs-{rank}")).fit()
    own = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in whole.task.parameters())
    found = {"whole": end(whole), "share": own / sum(p.numel() for p in whole.task.parameters())}
    found["gathered"] = sum(type(module).__name__.startswith("FSDP") for module in whole.task.modules())
    found["on"] = end(sharded(rank, world, "on").fit(folder / "two" / f"step={HALF}.ckpt"))
    found["from one"] = end(sharded(rank, world, "from one").fit(folder / "one" / f"step={HALF}.ckpt"))
    found["searched"] = end(sharded(rank, world, "searched", 2, latent="minimised").fit())
    found["remembered"] = sharded(rank, world, "remembers", 3, task={"objective": Remembers()}).fit().task.objective.found
    try:
        sharded(rank, world, "writes", 2, task={"objective": Writes(96)}).fit()
    except UserError as error:
        found["writes"] = str(error)
    return found | {"full": full(rank, world)}


def full(rank: int, world: int) -> dict[str, Any]:
    """A disk that is full for the second process only."""
    folder, limits = Path(os.environ["SHARDED_TEST"]) / "full", resource.getrlimit(resource.RLIMIT_FSIZE)
    run = sharded(rank, world, "full", 2, every=1).fit()
    before = {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
    found: dict[str, Any] = {}
    try:
        save_folder({"vidssl": {}, "state_dict": run.task.state_dict()}, folder / "step=2.ckpt")
    except Unwritten as error:
        found["failed"] = str(error)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run.trainer.save_checkpoint(folder / "step=3.ckpt")  # a run goes on
    found["told"] = [str(each.message) for each in told if "could not be written" in str(each.message)]
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}
    return found | {"as before": before == after, "files": len(before)}


def four(rank: int, world: int) -> dict[str, Any]:
    """Four processes go on where two have stopped."""
    return end(sharded(rank, world, "four").fit(Path(os.environ["SHARDED_TEST"]) / "two" / f"step={HALF}.ckpt"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs."""
    folder = tmp_path_factory.mktemp("sharded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDED_TEST", str(folder))
        yield folder


@pytest.fixture(scope="module")
def one(place: Path) -> dict[str, Any]:
    """What one process does."""
    return end(started("one").fit())


@pytest.fixture(scope="module")
def both(place: Path, one: dict[str, Any]) -> list[dict[str, Any]]:
    """What two processes do."""
    return together("two", place, 2)


def apart(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest difference of two runs' weights."""
    assert a["weights"].keys() == b["weights"].keys()
    return max(float((a["weights"][k].float() - b["weights"][k].float()).abs().max()) for k in a["weights"])


def test_two_processes_learn_what_one_learns(one: dict[str, Any], both: list[dict[str, Any]]) -> None:
    first, second = (each["whole"] for each in both)
    means = {step: (first["losses"][step] + second["losses"][step]) / 2 for step in first["losses"]}
    assert list(means) == list(one["losses"]) == list(range(1, STEPS + 1))
    assert list(means.values()) == pytest.approx(list(one["losses"].values()), rel=1e-4) and means[1] != pytest.approx(first["losses"][1], rel=1e-3)
    assert apart(first, second) == 0 and apart(first, one) < CLOSE  # the averages, which a run ends with


def test_each_process_has_half_of_the_weights_and_blocks_are_gathered_by_themselves(both: list[dict[str, Any]]) -> None:
    assert all(0.45 < each["share"] < 0.55 and each["gathered"] >= 5 for each in both) and sum(each["share"] for each in both) == pytest.approx(1)


def test_the_average_is_validated(one: dict[str, Any], place: Path, both: list[dict[str, Any]]) -> None:
    first, second = (each["whole"]["validations"] for each in both)
    assert first == second and first.keys() == one["validations"].keys() == {5}
    trained = read_folder(place / "two" / f"step={STEPS}.ckpt")
    assert any(not torch.equal(trained["state_dict"][k], trained["trained_state_dict"][k]) for k in trained["state_dict"])


def test_futures_are_shown(place: Path, both: list[dict[str, Any]]) -> None:
    files = {rank: b"".join(p.read_bytes() for p in (place / f"logs-{rank}").rglob("events.*")) for rank in (0, 1)}
    assert b"futures/0" in files[0] and b"futures/0" not in files[1]


def test_the_same_number_goes_on_to_the_bit(both: list[dict[str, Any]]) -> None:
    for each in both:
        assert apart(each["on"], each["whole"]) == 0
        assert each["on"]["losses"] == {step: loss for step, loss in each["whole"]["losses"].items() if step > HALF}


def test_two_go_on_from_a_single_file(one: dict[str, Any], both: list[dict[str, Any]]) -> None:
    assert apart(both[0]["from one"], one) < CLOSE and list(both[0]["from one"]["losses"]) == list(range(HALF + 1, STEPS + 1))


def test_four_go_on_where_two_stopped(place: Path, both: list[dict[str, Any]]) -> None:
    assert all(apart(each, both[0]["whole"]) < CLOSE for each in together("four", place, 4))


def test_one_goes_on_where_two_stopped(place: Path, both: list[dict[str, Any]]) -> None:
    assert apart(end(started("alone").fit(place / "two" / f"step={HALF}.ckpt")), both[0]["whole"]) < CLOSE


def test_one_process_opens_the_model(place: Path, both: list[dict[str, Any]]) -> None:
    energy, known = load_energy(place / "two" / f"step={STEPS}.ckpt"), model("gaussian_learned")
    known.load_state_dict({k.removeprefix("energy."): v for k, v in both[0]["whole"]["weights"].items() if k.startswith("energy.")})
    x, y = clips(3)
    assert torch.equal(energy.free_energy(x, y), known.eval().free_energy(x, y))


def test_the_whole_checkpoint_is_as_that_of_one_process(place: Path, both: list[dict[str, Any]]) -> None:
    mine, theirs = read_folder(place / "two" / f"step={STEPS}.ckpt"), torch.load(place / "one" / f"step={STEPS}.ckpt", weights_only=True)
    theirs["callbacks"].pop("Watch", None)

    def alike(a: Any, b: Any, where: str) -> None:
        if isinstance(a, torch.Tensor):
            assert a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a.float(), b.float(), atol=CLOSE, rtol=1e-3), where
        elif isinstance(a, dict):
            assert set(a) == set(b), where
            for key in a:
                alike(a[key], b[key], f"{where}/{key}")
        elif isinstance(a, (list, tuple)):
            assert type(a) is type(b) and len(a) == len(b), where
            for number, pair in enumerate(zip(a, b)):
                alike(*pair, f"{where}/{number}")
        else:
            assert a == b or isinstance(a, float), where

    alike(mine, theirs, "")


def test_a_damaged_piece_is_named(place: Path, both: list[dict[str, Any]]) -> None:
    piece = place / "two" / f"step={HALF}.ckpt" / "rank-1-of-2.safetensors"
    data = bytearray(piece.read_bytes())
    data[-1] ^= 1
    harmed = place / "harmed.ckpt"
    harmed.mkdir()
    for file in piece.parent.iterdir():
        (harmed / file.name).write_bytes(data if file == piece else file.read_bytes())
    for opened in (verify_folder, load_energy):
        with pytest.raises(UserError, match=piece.name):
            opened(harmed)


def test_a_full_disk_of_one_process_is_a_failure_of_all_and_leaves_everything(both: list[dict[str, Any]]) -> None:
    for rank, each in enumerate(each["full"] for each in both):
        assert "by process 1" in each["failed"] and "step=2.ckpt" in each["failed"] and each["as before"] and each["files"] >= 8
        assert len(each["told"]) == (rank == 0) and all("training goes on" in told for told in each["told"])


def test_gradients_within_a_step_go_with_whole_weights(both: list[dict[str, Any]], place: Path) -> None:
    alone = end(started("searched one", 2, latent="minimised").fit())
    assert apart(both[0]["searched"], alone) < CLOSE


def test_a_step_that_writes_to_weights_is_refused(both: list[dict[str, Any]]) -> None:
    assert all("wrote to 'energy.decoder.paint.bias'" in each["writes"] for each in both)


def test_a_step_begins_with_the_buffers_of_the_first_process(both: list[dict[str, Any]]) -> None:
    first, second = (each["remembered"] for each in both)
    assert first == second and len(set(first)) == 3


class Clusters(Reclustered):
    """Clusters nothing."""

    clips, every = 8, 4
    features = recluster = loss = None


def made(name: str = "gaussian_learned", objective: Any = None, compiled: bool = False) -> PredictionTask:
    """A task that is not trained."""
    return PredictionTask(model(name), objective or LimitedLatent(96), torch.optim.AdamW, compile=compiled)


def test_what_shared_weights_would_spoil_is_refused() -> None:
    for task, told in ((made(objective=Clusters()), "Clusters begins"), (made("erasure"), "Erasure holds"), (made(compiled=True), "torch.compile")):
        with pytest.raises(UserError, match=told):
            check(task)
    check(made())
    with pytest.raises(UserError, match="least 0"):
        Sharded(0)


@pytest.mark.parametrize("name", ["sharded", "vidssl.training.sharded.Sharded"])
def test_it_has_a_name_on_the_command_line(name: str) -> None:
    trainer = small_runs.L.Trainer(strategy=name, accelerator="cpu", devices=2, logger=False, enable_checkpointing=False)
    assert type(trainer.strategy) is Sharded


def test_searches_take_gradients_and_encoders_do_not() -> None:
    assert slopes(made("langevin")) and not slopes(made())


def test_blocks_are_what_runs_by_its_forward_alone() -> None:
    task = made()
    found = blocks(task)
    assert task.energy.predictor.blocks[0] in found and task.energy.predictor not in found and task.energy.latent not in found
    places = {block: number for number, block in enumerate(found)}
    assert all(places[inner] < places[outer] for outer in found for inner in outer.modules() if inner is not outer and inner in places)


if __name__ == "together":
    go(*TOLD)  # noqa: F821
