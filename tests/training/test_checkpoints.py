"""Checkpoints are whole or not there, open without Lightning, and run no code."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import clips

import vidssl
from vidssl.spec import spec_of
from vidssl.training.checkpoints import AtomicCheckpointIO, digest_path, newest, verify
from vidssl.training.ema import TRAINED
from vidssl.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You have overridden", "ignore:You're resuming", "ignore:`isinstance", "ignore:The '")


def state(value: float = 1.0, size: int = 1000) -> dict[str, Any]:
    """The least that is a checkpoint."""
    return {"state_dict": {"energy.w": torch.full((size,), value)}, "vidssl": {}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "step=1.ckpt"
    AtomicCheckpointIO().save_checkpoint(state(), path)
    return path


def test_what_is_written_is_read(saved: Path) -> None:
    verify(saved)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(saved)["state_dict"]["energy.w"], state()["state_dict"]["energy.w"])
    assert sorted(p.name for p in saved.parent.iterdir()) == ["step=1.ckpt", "step=1.ckpt.sha256"]


def test_removing_takes_the_digest_along(saved: Path) -> None:
    AtomicCheckpointIO().remove_checkpoint(saved)
    assert list(saved.parent.iterdir()) == []


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("harm", ["truncated", "tampered"])
def test_a_harmed_file_is_refused_in_one_line(saved: Path, harm: str, digest: bool) -> None:
    data = bytearray(saved.read_bytes())
    if harm == "tampered":
        place = data.index(torch.ones(8).numpy().tobytes())
        data[place] ^= 1
    saved.write_bytes(data[: len(data) // 2] if harm == "truncated" else data)
    if not digest:
        digest_path(saved).unlink()
    with pytest.raises(UserError, match=r"step=1\.ckpt") as error:
        AtomicCheckpointIO().load_checkpoint(saved)
    assert "\n" not in str(error.value)


def test_the_newest_whole_one_is_found(saved: Path) -> None:
    for step in (2, 3):
        AtomicCheckpointIO().save_checkpoint(state(step), saved.with_name(f"step={step}.ckpt"))
    (saved.with_name("step=3.ckpt")).write_bytes(b"half")
    digest_path(saved.with_name("step=3.ckpt")).unlink()
    assert newest(saved.parent.parent).name == "step=2.ckpt"
    for path in saved.parent.glob("*.ckpt"):
        path.write_bytes(b"gone")
    with pytest.raises(UserError, match="no whole checkpoint"):
        newest(saved.parent.parent)


def test_no_room_keeps_what_was_there(saved: Path) -> None:
    """A limit on the size of files fails in the middle of torch's own writer, as a full disk does."""
    before = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.warns(UserWarning, match="could not be written"):
            AtomicCheckpointIO().save_checkpoint(state(2.0, 1_000_000), saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert sorted(p.name for p in saved.parent.iterdir()) == ["step=1.ckpt", "step=1.ckpt.sha256"]
    verify(saved)


def test_a_disk_that_loses_what_it_was_given_is_noticed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(path: Path) -> None:
        if path.suffix == ".ckpt":
            path.write_bytes(path.read_bytes()[:-1000])

    before = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("vidssl.training.checkpoints.sync", forgetful)
        with pytest.warns(UserWarning, match="is not what was written"):
            AtomicCheckpointIO().save_checkpoint(state(2.0), saved)
    assert saved.read_bytes() == before
    verify(saved)


def test_no_room_at_the_flush(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.warns(UserWarning, match="No space"):
            AtomicCheckpointIO().save_checkpoint(state(2.0), saved)
    assert saved.read_bytes() == before and len(list(saved.parent.glob("*.ckpt"))) == 1
    verify(saved)


def test_weights_that_are_not_finite_are_never_written(saved: Path) -> None:
    with pytest.raises(UserError, match=r"'energy\.w' is not"):
        AtomicCheckpointIO().save_checkpoint(state(float("nan")), saved)
    verify(saved)


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "run": subprocess.run}, path)
    with pytest.raises(UserError, match="evil"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_checkpoint_opens_without_lightning_and_holds_the_averaged_weights(run) -> None:
    done = run(7).fit()
    path = done.folder / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    record = checkpoint["vidssl"]
    assert record["format"] == 1 and record["energy"] == spec_of(done.task.energy)
    assert record["data"] == done.data.protocol() and record["record"]["steps"] == 7
    assert any(not torch.equal(checkpoint["state_dict"][k], checkpoint[TRAINED][k]) for k in checkpoint[TRAINED])
    x, _ = clips(2)
    with torch.no_grad():
        expected = done.task.energy.eval().sample(x, 2, torch.Generator().manual_seed(0))
    code = (
        "import sys, torch, vidssl; from models import clips; e = vidssl.load(sys.argv[1]);"
        "print(float(e.sample(clips(2)[0], 2, torch.Generator().manual_seed(0)).double().sum()));"
        "assert not {m for m in sys.modules if m.split('.')[0] in ('lightning', 'jsonargparse')}"
    )
    root = Path(vidssl.__file__).parents[1]
    environment = {"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "", "OMP_NUM_THREADS": "1"}
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, env=environment)
    assert float(told.stdout) == pytest.approx(float(expected.double().sum()), rel=1e-6)


def test_another_models_checkpoint_is_refused_by_both_names(run) -> None:
    done = run(1).fit()
    with pytest.raises(UserError, match=r"Categorical.*GaussianLearned") as error:
        run(2, latent="gaussian_learned").fit(done.folder / "last.ckpt")
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_something_else_is_refused(run, saved: Path) -> None:
    torch.save({"state_dict": {}}, saved)
    digest_path(saved).unlink()
    with pytest.raises(UserError, match="no 'vidssl' record"):
        run(2).fit(saved)


def test_the_last_step_is_kept_and_two_before_it_at_most(run) -> None:
    done = run(7, every=2).fit()
    assert sorted(p.name for p in done.folder.glob("*.ckpt")) == ["last.ckpt", "step=6.ckpt", "step=7.ckpt"]
    assert torch.load(done.folder / "last.ckpt", weights_only=True)["global_step"] == 7
    by_epochs = run(-1, name="epochs", max_epochs=2).fit()
    assert torch.load(by_epochs.folder / "last.ckpt", weights_only=True)["global_step"] == 10


def test_drafts_of_a_killed_run_are_removed_and_never_opened(run) -> None:
    done = run(2).fit()
    draft = done.folder / ".step=3-abc.ckpt"
    draft.write_bytes((done.folder / "last.ckpt").read_bytes())
    assert newest(done.folder).name != draft.name
    run(3).fit(newest(done.folder))
    assert not draft.exists() and (done.folder / "step=3.ckpt").is_file()


def test_a_run_that_has_ended_can_be_made_longer(run) -> None:
    """It goes on with the clips that a run of that length from the start sees."""
    whole, short = run(12, name="whole").fit(), run(7).fit()
    longer = run(12)
    longer.fit(newest(short.folder))
    assert longer.record.keys == {step: whole.record.keys[step] for step in range(8, 13)}
