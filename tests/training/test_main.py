"""`vidssl fit`: runs, goes on, never overwrites, and says in one line what is wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import yaml

from vidssl import cli
from vidssl.training.complaint import complaint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SMALL = [
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0",
    "--data.train_clips=40", "--data.val_clips=8", "--data.batch_size=8",
]  # fmt: skip
RECIPE = ["--config", "fork-categorical", *SMALL]


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(*arguments: str, recipe: list[str] = RECIPE) -> int:
    """The command's exit status."""
    return cli.main(["fit", *recipe, *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, recipe: list[str] = RECIPE) -> str:
    """The one line with which the command refuses; nothing else goes to the error stream."""
    assert fit(*arguments, recipe=recipe) == 2
    error = capsys.readouterr().err
    assert error.startswith("vidssl: ") and error.count("\n") == 1, error
    return error


def step_of(path: str) -> int:
    """Steps in a checkpoint."""
    return torch.load(path, weights_only=True)["global_step"]


def test_a_run_goes_on_in_its_folder_and_a_new_one_gets_a_new_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.max_steps=7") == 0
    told = capsys.readouterr().out
    folder = Path("runs/fork-categorical/version_0")
    assert str(folder) in told and "last.ckpt" in told and "tensorboard" in told
    assert {p.name for p in (folder / "checkpoints").glob("*.ckpt")} == {"step=7.ckpt", "last.ckpt"}
    assert any(p.name.startswith("events") for p in folder.iterdir())
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_steps"] == 7

    assert fit("--trainer.max_steps=9", "--ckpt_path", "last") == 0
    assert step_of(folder / "checkpoints/last.ckpt") == 9
    before = (folder / "checkpoints/last.ckpt").read_bytes()
    assert fit("--trainer.max_steps=2") == 0
    assert fit("--trainer.max_steps=11", "--ckpt_path", str(folder / "checkpoints/step=7.ckpt")) == 0
    assert (folder / "checkpoints/last.ckpt").read_bytes() == before
    assert [step_of(f"runs/fork-categorical/version_{i}/checkpoints/last.ckpt") for i in range(3)] == [9, 2, 11]


def test_a_run_that_starts_itself_again_begins_where_there_is_nothing_to_go_on_from() -> None:
    for steps in (3, 5):
        assert fit(f"--trainer.max_steps={steps}", "--ckpt_path", "auto") == 0
    assert step_of("runs/fork-categorical/version_0/checkpoints/last.ckpt") == 5 and not Path("runs/fork-categorical/version_1").exists()


@pytest.mark.parametrize(("change", "says"), [("batch_size=4", "batch_size was 8 and is 4"), ("seed=1", "seed was 0 and is 1"), ("train_clips=48", "clips was 40 and is 48")])
def test_another_order_of_clips_is_refused(change: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The count of batches would mean another place in it."""
    assert fit("--trainer.max_steps=2") == 0
    assert says in refused(capsys, "--trainer.max_steps=4", "--ckpt_path", "last", f"--data.{change}")


def test_the_curves_of_a_run_go_on_with_it() -> None:
    for steps, more, logged in ((7, [], ["1", "3", "4", "5"]), (9, ["--ckpt_path", "last"], ["1", "3", "4", "5", "7"])):
        assert fit(f"--trainer.max_steps={steps}", "--trainer.log_every_n_steps=2", *more) == 0
        rows = list(csv.DictReader(Path("runs/fork-categorical/version_0/curves.csv").read_text().splitlines()))
        assert [row["step"] for row in rows] == logged
        assert [row["step"] for row in rows if row["val/loss"]] == ["4"], "the epoch's last"
        assert all(row["train/loss"] and row["lr-AdamW"] for row in rows if row["step"] != "4")


def test_a_saved_configuration_makes_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.max_steps=2") == 0
    saved = "runs/fork-categorical/version_0/config.yaml"
    assert fit("--run", "again", recipe=["--config", saved]) == 0
    first, again = (
        torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("fork-categorical", "again")
    )
    assert all(torch.equal(first[k], again[k]) for k in first)


def test_later_configurations_change_earlier_ones() -> None:
    Path("more.yaml").write_text("trainer: {max_steps: 1}\nmodel: {warmup_steps: 7}\nema: {decay: 0.5}\n")
    assert fit("--config", "more.yaml", "--run", "stacked") == 0
    saved = yaml.safe_load(Path("runs/stacked/version_0/config.yaml").read_text())
    assert saved["trainer"]["max_steps"] == 1 and saved["model"]["warmup_steps"] == 7 and saved["ema"]["decay"] == 0.5
    assert saved["data"]["init_args"]["batch_size"] == 8


@pytest.mark.parametrize("option", ["logger", "enable_checkpointing"])
def test_what_the_trainer_is_told_to_leave_out(option: str) -> None:
    assert fit("--trainer.max_steps=1", f"--trainer.{option}=false") == 0
    assert bool(list(Path("runs").rglob("events*"))) == bool(list(Path("runs").rglob("curves.csv"))) == (option != "logger")
    assert bool(list(Path("runs").rglob("*.ckpt"))) == (option == "logger")


def test_a_dry_run_leaves_nothing() -> None:
    assert fit("--trainer.fast_dev_run=true") == 0
    assert not [p for p in Path("runs").rglob("*") if p.is_file()]


def test_help_is_short_and_names_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.count("\n") < 30 and "fork-categorical" in told and "--ckpt_path" in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trainer: {max_stepz: 3}", ["max_stepz", "did you mean 'max_steps'"]),
        ("modle: {price: 3}", ["modle.price"]),
        ("data: {init_args: {btch_size: 3}}", ["WorldData", "btch_size", "did you mean 'batch_size'"]),
        ("model: {energy: {init_args: {latent: {class_path: vidssl.latents.vq.VQ, init_args: {clases: 8}}}}}", ["model.energy.latent", "clases"]),
        ("model: {energy: {init_args: {price: high}}}", ["model.energy.price", "float", "'high'"]),
        ("model: {energy: {class_path: vidssl.energy.predictive.PixelEnrgy}}", ["model.energy", "PixelEnrgy"]),
        ("model: {optimizer: {init_args: {lr: fast}}}", ["model.optimizer", "float", "'fast'"]),
        ("model: {optimizer: {init_args: {lr: -1.0}}}", ["Invalid learning rate"]),
        ("trainer: {max_steps: many}", ["trainer.max_steps", "int", "'many'"]),
        ("data: [1, 2", ["no YAML"]),
        ("- 1", ["sections"]),
    ],
)
def test_a_mistake_in_a_configuration_is_one_line(capsys: pytest.CaptureFixture[str], text: str, words: list[str]) -> None:
    Path("bad.yaml").write_text(text + "\n")
    line = refused(capsys, "--config", "bad.yaml", "--trainer.limit_val_batches=0")
    assert all(word in line for word in words), line
    assert len(line) < 400
    assert not list(Path().rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--trainer.max_stepz", "3"], "max_stepz"),
        (["--watch.clip", "3"], "--watch.clip"),
        (["stray"], "stray"),
        (["--trainer.accelerator", "abacus"], "abacus"),
        (["--trainer.precision", "64-true"], "trainer.precision is one of 32-true, 16-mixed, bf16-mixed; got 64-true"),
        (["--trainer.precision", "bf16-true"], "got bf16-true"),
        (["--data.batch_size", "100"], "40 clips for batch_size 100"),
        (["--config", "no-such-recipe"], "no-such-recipe"),
        (["--ckpt_path", "last"], "to go on from"),
        (["--ckpt_path", "none.ckpt"], "none.ckpt"),
        (["--run"], "--run"),
        (["--trainer.max_steps", "-1", "--trainer.max_epochs", "-1"], "needs an end"),
    ],
)
def test_a_mistake_on_the_line_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], word: str) -> None:
    assert word in refused(capsys, *arguments)


def test_what_data_refuse_when_they_are_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.yaml").write_text("data:\n  class_path: vidssl.data.module.VideoData\n  init_args: {size: 4}\n")
    error = refused(capsys, *["--config", "data.yaml"], recipe=["--config", "video-gaussian"])
    assert "at least 8 pixels" in error and "got size 4" in error


def test_without_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit"]) == 2
    assert "--config" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "trainer: {callbacks: [{class_path: stranger.Callback}]}",
        "data: {class_path: stranger.Data}",
        "model: {optimizer: stranger.Adam}",
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {on_fit_start: stranger.run}}]}",
        "data: nested.yaml",
        "model: {energy: {class_path: vidsslx.energy.Evil}}",
    ],
)
def test_classes_from_elsewhere_never_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The stranger is importable; what it would do is leave a file behind."""
    Path("stranger.py").write_text(
        "import torch, lightning as L\nfrom pathlib import Path\nfrom vidssl.data.module import WorldData\n"
        "def run(*a): Path('ran').touch()\n"
        "class Callback(L.Callback):\n    __init__ = run\n"
        "class Adam(torch.optim.Adam):\n    def __init__(self, params, lr: float = 1e-3): run(); super().__init__(params, lr)\n"
        "class Data(WorldData):\n    def __init__(self, x: int = 3): run()\n"
    )
    Path("nested.yaml").write_text("class_path: stranger.Data\n")
    Path("downloaded.yaml").write_text(text + "\n")
    monkeypatch.syspath_prepend(".")
    refused(capsys, "--config", "downloaded.yaml", "--trainer.max_steps=1")
    assert not Path("ran").exists()


def test_classes_from_elsewhere_run_when_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("friend.py").write_text(
        "import lightning as L\nfrom pathlib import Path\n"
        "class Callback(L.Callback):\n    def on_fit_start(self, trainer, pl_module): Path('ran').touch()\n"
    )
    Path("mine.yaml").write_text("trainer: {callbacks: [{class_path: friend.Callback}]}\n")
    monkeypatch.syspath_prepend(".")
    assert fit("--config", "mine.yaml", "--trainer.max_steps=1", "--allow_class_path", "friend") == 0
    assert Path("ran").exists()


def test_a_signal_ends_the_command_with_status_143(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("stopper.py").write_text(
        "import lightning as L, os, signal\n"
        "class Callback(L.Callback):\n    def on_train_batch_start(self, trainer, *rest):\n"
        "        if trainer.global_step == 2: os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    Path("mine.yaml").write_text("trainer: {callbacks: [{class_path: stopper.Callback}]}\n")
    monkeypatch.syspath_prepend(".")
    with pytest.raises(SystemExit) as end:
        fit("--config", "mine.yaml", "--trainer.max_steps=9", "--allow_class_path", "stopper")
    assert end.value.code == 143
    assert step_of("runs/fork-categorical/version_0/checkpoints/step=3.ckpt") == 3
    assert fit("--trainer.max_steps=9", "--ckpt_path", "last") == 0
    assert step_of("runs/fork-categorical/version_0/checkpoints/last.ckpt") == 9


def test_a_complaint_that_nobody_foresaw_is_cut() -> None:
    assert len(complaint("x " * 1000)) <= 300
