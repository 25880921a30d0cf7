"""Files from strangers end in one line, and nothing in them runs: the canary that each would leave behind is never there."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidssl import cli
from vidssl.data.config import load_data
from vidssl.data.named import bounded, read_yaml
from vidssl.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EVIL = """
import lightning as L, torch
from pathlib import Path
Path("ran").touch()
class Callback(L.Callback): pass
class Adam(torch.optim.Adam): pass
"""
BACK = "vidssl.data.source.os.system"
LAMBDA = "lightning.pytorch.callbacks.LambdaCallback"
BOMB = "{" + ", ".join(f"{b}: &{b} [{','.join(['*' + a] * 9 if a != '_' else ['x'] * 9)}]" for a, b in zip("_abcdefghi", "abcdefghij")) + "}"
CONFIGS = {
    "module": "trainer: {callbacks: [{class_path: stranger.Callback}]}",
    "string": "model: {optimizer: stranger.Adam}",
    "text in a string": "data: '{class_path: stranger.Data}'",
    "callback in a string": "trainer: {callbacks: '[{class_path: stranger.Callback}]'}",
    "included": "data: nested.yaml",
    "included callbacks": "trainer: {callbacks: nested-list.yaml}",
    "module of the library that acts": "model: {optimizer: antigravity.x}",
    "call": "model: {optimizer: {class_path: os.system, init_args: {command: touch ran}}}",
    "by way of ours": f"model: {{optimizer: {BACK}}}",
    "by way of ours, called": f"model: {{optimizer: {{class_path: {BACK}, init_args: {{command: touch ran}}}}}}",
    "by way of ours, started": "trainer: {callbacks: [{class_path: vidssl.data.atari.subprocess.Popen, init_args: {args: [touch, ran]}}]}",
    "function of ours": "model: {energy: {class_path: vidssl.export.load.load_energy, init_args: {model: ran}}}",
    "compile": "model: {optimizer: {class_path: torch.utils.cpp_extension.load, init_args: {name: x, sources: [x.cpp]}}}",
    "hub": "model: {optimizer: torch.hub.load}",
    "pickle": "model: {energy: {class_path: torch.load, init_args: {f: x.pt, weights_only: false}}}",
    "script": "model: {energy: {class_path: torch.jit.load, init_args: {f: x.pt}}}",
    "torch's own os": "model: {optimizer: torch.optim.optimizer.os.system}",
    "lambda": f"trainer: {{callbacks: [{{class_path: {LAMBDA}, init_args: {{on_fit_start: {BACK}}}}}]}}",
    "lambda of ours": f"trainer: {{callbacks: [{{class_path: {LAMBDA}, init_args: {{on_fit_start: vidssl.files.sync}}}}]}}",
    "bare lambda": "trainer: {callbacks: [{class_path: LambdaCallback, init_args: {on_fit_start: vidssl.files.sync}}]}",
    "lambda, called": f"trainer: {{callbacks: [{{class_path: {LAMBDA}, init_args: {{on_fit_start: {{class_path: functools.partial, init_args: {{}}}}}}}}]}}",
    "averages": "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.StochasticWeightAveraging, init_args: {swa_lrs: 0.1, avg_fn: vidssl.files.sync}}]}",
    "hook": "trainer: {strategy: {class_path: lightning.pytorch.strategies.DDPStrategy, init_args: {ddp_comm_hook: vidssl.files.sync}}}",
    "another reader": "trainer: {plugins: [{class_path: lightning.pytorch.plugins.io.TorchCheckpointIO}]}",
    "another reader, shorter": "trainer: {plugins: [{class_path: lightning.pytorch.plugins.TorchCheckpointIO}]}",
    "tag": "trainer: {max_steps: !!python/object/apply:os.system ['touch ran']}",
    "new tag": "!!python/object/new:os.system ['touch ran']",
    "unknown tag": "trainer: !Thing {max_steps: 3}",
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij")),
    "merging bomb": "a: &a {x: 1}\n" + "".join(f"{b}: &{b} {{<<: [{','.join(['*' + a] * 9)}]}}\n" for a, b in zip("abcdefghi", "bcdefghij")),
    "bomb in a string": f"data: '{BOMB}'",
    "bomb in a string in a string": f"""data: "{{x: '{BOMB}'}}" """,
    "bomb for a number": f"trainer: {{max_steps: '{BOMB}'}}",
    "deep string": "trainer: {max_steps: '" + "[" * 100_000 + "'}",
    "endless": "a: &a [*a]",
    "deep": "trainer: " + "[" * 100_000,
    "long": "x: [" + "1, " * 400_000 + "1]",
    "odd number": "trainer: {max_steps: !!int ''}",
    "odd date": "x: 2001-99-99",
    "huge number": "trainer: {max_steps: " + "9" * 5000 + "}",
    "nothing": "\0",
    "address": "trainer: {default_root_dir: 's3://somebody/else'}",
    "address of a logger": "trainer: {logger: {class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {save_dir: 'ftp://somebody/else'}}}",
    "another logger": "trainer: {logger: {class_path: lightning.pytorch.loggers.MLFlowLogger, init_args: {tracking_uri: somebody}}}",
    "registry": "trainer: {model_registry: somebody/else}",
}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a stranger would leave; `stranger` is importable and leaves it at the import already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(".")
    Path("stranger.py").write_text(EVIL)
    Path("nested.yaml").write_text("class_path: stranger.Data\n")
    Path("nested-list.yaml").write_text("- class_path: stranger.Callback\n")
    return tmp_path / "ran"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_runs_nothing(name: str, canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("downloaded.yaml").write_text(CONFIGS[name])
    assert cli.main(["fit", "--config", "fork-categorical", "--config", "downloaded.yaml", "--trainer.max_steps=1", "--trainer.accelerator=cpu"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("vidssl: ") and told.count("\n") == 1 and "Traceback" not in told, told
    assert len(told) < 900
    assert not canary.exists() and not list(Path().rglob("*.ckpt"))


def test_a_package_that_is_allowed_is_allowed_for_one_run(canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("downloaded.yaml").write_text(CONFIGS["module"])
    line = ["fit", "--config", "fork-categorical", "--config", "downloaded.yaml", "--trainer.accelerator=cpu", "--data.train_clips=40", "--data.val_clips=8"]
    line += ["--data.batch_size=8", "--trainer.max_steps=1", "--trainer.enable_progress_bar=false"]
    assert cli.main([*line, "--allow_class_path", "stranger"]) == 0
    assert canary.exists()
    assert cli.main(line) == 2
    assert "stranger" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [
        "{class_path: stranger.Data}",
        "{class_path: vidssl.data.module.WorldData, init_args: {world: {class_path: stranger.World}}}",
        "{class_path: vidssl.data.module.WorldData, init_args: {world: '{class_path: stranger.World}'}}",
        "{class_path: vidssl.data.module.WorldData, init_args: {world: stranger.World}}",
        "{class_path: vidssl.data.module.WorldData, init_args: [{class_path: stranger.World}]}",
        f"{{class_path: {BACK}, init_args: {{command: touch ran}}}}",
    ],
)
def test_data_from_a_configuration_run_nothing(data: str, canary: Path) -> None:
    Path("downloaded.yaml").write_text(f"data: {data}")
    with pytest.raises(UserError):
        load_data("downloaded.yaml")
    assert not canary.exists()


def test_plain_yaml_is_read_as_before() -> None:
    text = "a: &a {x: 1, y: [1.5, null, 'z']}\nb: *a\nc: {<<: *a, x: 2}\n"
    bounded(text)
    assert read_yaml(text, "x") == {"a": {"x": 1, "y": [1.5, None, "z"]}, "b": {"x": 1, "y": [1.5, None, "z"]}, "c": {"x": 2, "y": [1.5, None, "z"]}}
