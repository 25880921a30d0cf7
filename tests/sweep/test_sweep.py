"""`vidssl sweep`: cells are run once, failures stop nothing, folders are not mixed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vidssl.cli import main as command
from vidssl.data.config import make_data
from vidssl.data.encode import write_video
from vidssl.house import room
from vidssl.nets.encoders import ChangeEncoder
from vidssl.sweep.cell import make_energy, run_cell
from vidssl.sweep.config import Cell, read_sweep
from vidssl.sweep.run import run_sweep
from vidssl.types import Batch, Moment, UserError

SMALL = {
    "data": {
        "class_path": "vidssl.data.module.WorldData",
        "init_args": {
            "world": {"class_path": "vidssl.data.worlds.fork.Fork", "init_args": {"size": 16, "past": 3, "future": 4, "side": 3, "speed": 1}},
            "train_clips": 64,
            "val_clips": 8,
            "test_clips": 12,
            "batch_size": 8,
        },
    },
    "network": {"width": 8, "patch": 4, "encoder_depth": 1, "depth": 1, "decoder": "CopyDecoder", "frame_width": 8},
    "training": {"clips": 64, "steps": 3, "batch": 8, "lr": 1e-3, "scale": 40.0},
    "probe": {"clips": 64, "steps": 10},
    "scores": {"futures": 3, "draws": 8, "pasts": 2, "clips": 4},
    "seeds": [0],
    "limiters": {
        "none": {"latent": {"class_path": "vidssl.latents.none.NoLatent"}},
        "low": {"latent": {"class_path": "vidssl.latents.deterministic.Deterministic", "init_args": {"dim": 2}}},
        "gaussian": {
            "latent": {"class_path": "vidssl.latents.gaussian.GaussianLearned", "init_args": {"dim": 2}},
            "knob": "objective.target_bits",
            "values": [0.5, 2.0],
        },
        "vq": {"latent": {"class_path": "vidssl.latents.vq.VQ"}, "knob": "latent.init_args.classes", "values": [4, 8]},
    },
}


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return path


def cells(tmp_path: Path, **changes: object) -> list[Cell]:
    return read_sweep(written(tmp_path, **changes))


def test_cells_are_limiters_times_values_times_seeds(tmp_path: Path) -> None:
    made = cells(tmp_path, seeds=[0, 1])
    assert [c.name for c in made[:6]] == ["none-on-s0", "low-on-s0", "gaussian-0.5-s0", "gaussian-2-s0", "vq-4-s0", "vq-8-s0"]
    assert len(made) == 12 and {c.seed for c in made[6:]} == {1}
    assert [c.spec["objective"].get("target_bits") for c in made[:4]] == [None, None, 0.5, 2.0]
    assert [c.spec["latent"]["init_args"]["classes"] for c in made[4:6]] == [4, 8]


def test_every_limiter_is_scored_under_both_priors(tmp_path: Path) -> None:
    found = {c.limiter: run_cell(c.spec) for c in cells(tmp_path) if c.value != "8"}
    for name, made in found.items():
        assert math.isfinite(made["distortion"]) and made["without"] > 0
        for prior in ("native", "probe"):
            assert {"total_variation", "auroc", "energy_slope_soft", "energy_calibration"} <= made[prior].keys(), (name, prior)
        assert made["futures"]["futures"].shape == (6, 3, 4, 1, 16, 16)
    assert found["none"]["native_prior"] == "none" and found["vq"]["native_prior"] == "own"
    low = found["low"]
    assert low["native_prior"] == "nearest codes" and low["probe"]["operational_bits"] == low["probe"]["rate_bits"] >= 0
    assert low["rounded_distortion"] <= low["distortion"] + 0.1 * max(0.0, low["without"] - low["distortion"]) + 1e-4
    assert "operational_bits" not in found["vq"]["probe"]


def test_a_cell_is_repeatable(tmp_path: Path) -> None:
    spec = cells(tmp_path)[2].spec
    first, again = run_cell(spec), run_cell(spec)
    assert first["probe"] == again["probe"] and first["distortion"] == again["distortion"]


def test_finished_cells_stay_and_failed_ones_stop_nothing(tmp_path: Path) -> None:
    limiters = {
        "too_much": {"latent": {"class_path": "vidssl.latents.vq.VQ", "init_args": {"classes": 4}}, "objective": {"target_bits": 9.0}},
        "none": SMALL["limiters"]["none"],  # type: ignore[index]
    }
    made = cells(tmp_path, limiters=limiters)
    outcome = run_sweep(made, tmp_path / "out")
    assert outcome.done == ["none-on-s0"] and list(outcome.failed) == ["too_much-on-s0"]
    why = outcome.failed["too_much-on-s0"]
    assert "9.0" in why and "2 bits" in why and (tmp_path / "out/cells/too_much-on-s0/failed.txt").read_text() == why
    result = tmp_path / "out/cells/none-on-s0/metrics.json"
    before = result.stat().st_mtime_ns
    outcome = run_sweep(made, tmp_path / "out")
    assert outcome.before == ["none-on-s0"] and result.stat().st_mtime_ns == before
    assert json.loads(result.read_text())["spec"]["seed"] == 0


def test_a_folder_of_another_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = {"none": SMALL["limiters"]["none"]}  # type: ignore[index]
    out = str(tmp_path / "out")
    assert command(["sweep", str(written(tmp_path, limiters=only)), "--output", out]) == 0
    changed = {**SMALL["training"], "steps": 4}  # type: ignore[dict-item]
    assert command(["sweep", str(written(tmp_path, limiters=only, training=changed)), "--output", out]) == 2
    error = capsys.readouterr().err
    assert "training.steps is 3 there and 4 here" in error and error.count("vidssl:") == 1


@pytest.mark.parametrize(
    ("changes", "say"),
    [
        ({"limiters": {"x": {"latnet": 1}}}, "a limiter has a latent"),
        ({"extra": 1}, "sections"),
        ({"limiters": {"x": {"latent": {"class_path": "os.system"}}}}, "not loaded"),
        ({"limiters": {"x": {"latent": {"class_path": "vidssl.latents.none.NoLatent"}, "objective": {"targte_bits": 1}}}}, "targte_bits"),
    ],
)
def test_wrong_configurations_are_refused(tmp_path: Path, changes: dict, say: str) -> None:
    with pytest.raises(UserError, match=say):
        run_cell(cells(tmp_path, **changes)[0].spec)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small videos in which a square moves."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(5):
        frames = np.zeros((30, 3, 16, 16), np.uint8)
        for t in range(30):
            frames[t, :, (t + i) % 12 : (t + i) % 12 + 4, 3 * i : 3 * i + 4] = 200
        write_video(folder / f"{i}.mp4", frames)
    return folder


VIDEO = {
    "data": {
        "class_path": "vidssl.data.module.VideoData",
        "init_args": {"folder": "not-there", "past": 3, "future": 4, "size": 16, "channels": 3, "hop": 2},
    },
    "network": {**SMALL["network"], "decoder": "FetchDecoder", "target_encoder": "ChangeEncoder"},  # type: ignore[dict-item]
    "training": {**SMALL["training"], "offset": 0.5},  # type: ignore[dict-item]
    "scores": {"futures": 3, "clips": 4},
}


def test_a_sweep_runs_on_a_folder_of_videos(tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = {c.name: c.spec for c in read_sweep(written(tmp_path, **VIDEO), str(videos))}
    for name in ("none-on-s0", "low-on-s0", "gaussian-0.5-s0"):
        made = run_cell(found[name])
        assert math.isfinite(made["distortion"]) and made["futures"]["futures"].shape == (6, 3, 4, 3, 16, 16)
        for prior in ("native", "probe"):
            assert {"psnr", "copy_last", "auroc"} <= made[prior].keys() and "total_variation" not in made[prior]
    test = make_data(found["none-on-s0"]["data"]).clips("test")
    whole = test.batch(0, list(range(len(test)))).unit()
    assert made["without"] == pytest.approx(float((whole.y - whole.x[:, -1:]).square().sum((1, 2, 3, 4)).mean())), "the floor is copying"


def test_the_network_may_choose_what_sees_targets(tmp_path: Path, videos: Path) -> None:
    spec = read_sweep(written(tmp_path, **VIDEO), str(videos))[1].spec
    assert type(make_energy(spec, make_data(spec["data"])).target_encoder) is ChangeEncoder
    spec["network"]["target_encoder"] = "NoEncoder"
    with pytest.raises(UserError, match="NoEncoder"):
        make_energy(spec, make_data(spec["data"]))


def test_the_training_section_chooses_the_objective() -> None:
    from vidssl.sweep.cell import _objective

    plain, relative = {"scale": 40.0}, {"scale": 40.0, "offset": 2.0}
    made = [type(_objective(told, training)).__name__ for training in (plain, relative) for told in ({}, {"target_bits": 1.0})]
    assert made == ["LimitedLatent", "TargetRate", "RelativeLimitedLatent", "RelativeTargetRate"]


def test_a_folder_takes_the_place_of_the_one_that_is_named(tmp_path: Path, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = written(tmp_path, **VIDEO)
    assert all(c.spec["data"]["init_args"]["folder"] == str(videos) for c in read_sweep(video, str(videos)))
    out = ["--output", str(tmp_path / "out")]
    assert command(["sweep", str(video), *out]) == 2
    error = capsys.readouterr().err
    assert "'not-there'" in error and "--folder" in error and error.count("\n") == 1
    assert command(["sweep", str(written(tmp_path)), "--folder", str(videos), *out]) == 2
    assert "has none" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted((room("configs") / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_sweeps_can_be_read(path: Path) -> None:
    made = read_sweep(path)
    assert len({c.name for c in made}) == len(made)
    assert {c.seed for c in made} == ({0} if path.stem == "video" else {0, 1, 2})
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("Reproduces:", "Command:", "Time:", "Expect:"):
        assert any(word in line for line in head), f"{path.name} does not say: {word}"


@pytest.mark.parametrize("path", sorted((room("configs") / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_cell_of_a_shipped_sweep_takes_a_step(path: Path) -> None:
    from types import SimpleNamespace

    from vidssl.sweep.cell import _objective

    for cell in read_sweep(path):
        if cell.seed:
            continue
        given = cell.spec["data"]["init_args"]
        given = given.get("world", {}).get("init_args", given)
        shape = SimpleNamespace(size=given["size"], past=given["past"], future=given["future"], channels=given.get("channels", 1))
        energy = make_energy(cell.spec, shape).train()  # type: ignore[arg-type]
        clip = torch.rand(2, shape.past + shape.future, shape.channels, shape.size, shape.size)
        batch = Batch(clip[:, : shape.past], clip[:, shape.past :], torch.arange(2))
        found = _objective(cell.spec["objective"], cell.spec["training"]).loss(energy, batch, Moment(0, 10, torch.Generator().manual_seed(0)))
        found.loss.backward()
        assert bool(found.loss.isfinite()), cell.name
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in energy.parameters()), cell.name
        assert any(p.grad is not None and bool(p.grad.any()) for p in energy.encoder.parameters()) or cell.spec["inference"], cell.name
