"""The real Trainer: a run that is stopped anywhere and goes on sees the clips that an unbroken run sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from vidssl.data.module import ClipData, ClipDataset
from vidssl.types import Batch

CLIPS, SIZE = 22, 4  # five batches an epoch, two clips left out


class Numbers(ClipDataset):
    """A clip is its number, and the epoch it was asked in."""

    def __len__(self) -> int:
        return CLIPS

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        made = torch.tensor(indices).view(-1, 1, 1, 1, 1).byte()
        return Batch(made, made + epoch, torch.tensor(indices))


class NumberData(ClipData):
    """Clips that are numbers."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.past = self.future = self.size = self.channels = 1
        self.world = None
        self._loaded_by(SIZE, workers, 5)

    def clips(self, split: str) -> ClipDataset:
        """The same in every split."""
        return Numbers()

    def protocol(self) -> dict:
        """Nothing to compare."""
        return {}


class Recorder(L.LightningModule):
    """Writes down the clips of every training step; stops or breaks where it is told to."""

    def __init__(self, breaks_at: int = -1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[int]]] = []
        self.breaks_at = breaks_at

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Record, and break in the middle of a step."""
        if self.global_step == self.breaks_at:
            raise RuntimeError("power failure")
        epoch = int((batch.y - batch.x).flatten()[0])
        self.seen.append((epoch, batch.key.tolist()))
        return self.weight.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing to validate."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any."""
        return torch.optim.SGD(self.parameters(), 0.1)


def run(folder: Path, steps: int, workers: int = 0, start: str | None = None, every: int = 0, breaks_at: int = -1, **options: object) -> list:
    model = Recorder(breaks_at)
    saver = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, save_last=False, every_n_train_steps=every or None, save_on_exception=True)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=[saver],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **options,
    )
    try:
        trainer.fit(model, NumberData(workers), ckpt_path=start)
    except RuntimeError as error:
        assert "power failure" in str(error)
    return model.seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list]:
    yield run(tmp_path_factory.mktemp("whole"), 17)


def only(folder: Path) -> str:
    (found,) = folder.glob("*.ckpt")
    return str(found)


def test_an_unbroken_run(whole: list) -> None:
    assert [epoch for epoch, _ in whole] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 2
    for epoch in range(3):
        seen = [key for e, keys in whole if e == epoch for key in keys]
        assert len(set(seen)) == 20
    assert whole[0][1] != whole[5][1] != whole[10][1]


@pytest.mark.parametrize("step", [3, 5, 7, 10])  # in the middle of an epoch, at its last batch, in the second, at its end
@pytest.mark.filterwarnings("ignore")
def test_stopped_at_a_step(step: int, whole: list, tmp_path: Path) -> None:
    before = run(tmp_path, step, every=step)
    after = run(tmp_path / "again", 17, start=only(tmp_path))
    assert before + after == whole


@pytest.mark.filterwarnings("ignore")
def test_stopped_twice(whole: list, tmp_path: Path) -> None:
    first = run(tmp_path / "1", 4, every=4)
    second = run(tmp_path / "2", 8, start=only(tmp_path / "1"), every=8)
    third = run(tmp_path / "3", 17, start=only(tmp_path / "2"))
    assert first + second + third == whole


@pytest.mark.filterwarnings("ignore")
def test_saved_at_the_end_of_an_epoch(whole: list, tmp_path: Path) -> None:
    before = run(tmp_path, 10)
    last = max(tmp_path.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    assert before + run(tmp_path / "again", 17, start=str(last)) == whole


@pytest.mark.parametrize("step", [3, 5, 6])
@pytest.mark.filterwarnings("ignore")
def test_broken_in_the_middle_of_a_step(step: int, whole: list, tmp_path: Path) -> None:
    before = run(tmp_path, 17, every=100, breaks_at=step)
    assert len(before) == step
    assert before + run(tmp_path / "again", 17, start=only(tmp_path)) == whole


@pytest.mark.filterwarnings("ignore")
def test_validation_changes_nothing(whole: list, tmp_path: Path) -> None:
    before = run(tmp_path, 7, every=7, val_check_interval=2)
    assert before + run(tmp_path / "again", 17, start=only(tmp_path), val_check_interval=2) == whole


@pytest.mark.filterwarnings("ignore")
def test_workers_change_nothing(whole: list, tmp_path: Path) -> None:
    before = run(tmp_path, 7, every=7)
    # workers are asked for clips before Lightning has set its counts right: they must not begin a batch too early
    assert before + run(tmp_path / "again", 17, workers=1, start=only(tmp_path), limit_val_batches=0) == whole
