"""`vidssl sample`: from a video and a model to pictures and numbers."""

from __future__ import annotations

import errno

import models
import numpy as np
import pytest
import torch

from vidssl.cli import load_tool
from vidssl.cli import main as command
from vidssl.data.decode import open_video
from vidssl.data.encode import write_video
from vidssl.data.pasts import Past
from vidssl.energy.critic import CriticEnergy
from vidssl.energy.predictive import PixelEnergy
from vidssl.export.card import Opened
from vidssl.export.write import export
from vidssl.nets.critics import ClipCritic


@pytest.fixture
def model(tmp_path):
    """An exported model that was trained on every second frame."""
    export(Opened(models.model("gaussian_learned"), {"stride": 2}, {}, ""), tmp_path / "model", "model")
    return str(tmp_path / "model")


@pytest.fixture
def video(tmp_path):
    """A noisy video of 24 frames: at stride 2, 4 + 6 frames from frame 0 and 4 + 4 from frame 8."""
    frames = np.random.default_rng(0).integers(0, 255, (24, 1, 40, 48), np.uint8)
    return str(write_video(tmp_path / "videos" / "walk.v2.mp4", frames))


def sample(model, video, output, *more):
    return command(["sample", model, "--input", video, "--futures", "3", "--output", str(output), *more])


def numbers(folder):
    with np.load(folder / "futures.npz", allow_pickle=False) as file:
        return dict(file)


def test_what_it_writes(model, video, tmp_path, capsys):
    assert sample(model, video, tmp_path / "out", "--start", "0", "8", "0.9s") == 0
    names = ["walk.v2-000000", "walk.v2-000008", "walk.v2-000009"]
    files = {f"{name}.{suffix}" for name in names for suffix in ("png", "gif", "mp4")} | {"futures.npz"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == files
    found = numbers(tmp_path / "out")
    assert found["names"].tolist() == names and found["seed"] == 0
    assert found["x"].shape == (3, 4, 1, 32, 32) and found["futures"].shape == (3, 3, 6, 1, 32, 32)
    assert found["y_frames"].tolist() == [6, 4, 4] and found["y"].shape == (3, 6, 1, 32, 32)
    with open_video(video) as opened:
        clip = opened.get(list(range(8, 24, 2)), 32, 1)
    assert np.array_equal(found["x"][1], clip[:4]) and np.array_equal(found["y"][1, :4], clip[4:])
    told = capsys.readouterr().out
    assert all(name in told for name in names) and "futures.npz" in told


def test_the_futures_are_those_of_the_model_for_this_past(model, video, tmp_path):
    sample(model, video, tmp_path / "out", "--start", "8")
    found, energy = numbers(tmp_path / "out"), models.model("gaussian_learned")
    past = Past("walk.v2-000008", found["x"][0], found["y"][0])
    again = load_tool("sample").draw(energy, past, 3, 0, 6)
    assert np.array_equal(again, found["futures"][0])
    with torch.inference_mode():
        many = energy.sample(torch.from_numpy(past.x)[None] / 255, 400)[:, 0]
    apart = np.abs(found["futures"][0] / 255 - many.mean(0).numpy()).mean((1, 2, 3, 4))
    assert (apart < 4 * (many - many.mean(0)).abs().mean().item()).all(), "they are draws around the model's mean"


def test_a_seed_repeats_byte_for_byte_and_another_one_differs(model, video, tmp_path):
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert sample(model, video, tmp_path / folder, "--seed", seed) == 0
    a, b, c = ((tmp_path / folder / "futures.npz").read_bytes() for folder in "abc")
    assert a == b != c
    found = numbers(tmp_path / "a")
    assert not np.array_equal(found["futures"][0, 0], found["futures"][0, 1]), "futures of one past differ"
    assert not np.array_equal(found["futures"], numbers(tmp_path / "c")["futures"])
    assert np.array_equal(found["x"], numbers(tmp_path / "c")["x"])


def test_a_past_has_its_futures_whatever_else_is_drawn(model, video, tmp_path):
    sample(model, video, tmp_path / "one", "--start", "4")
    sample(model, video, tmp_path / "two", "--start", "0", "4")
    one, two = numbers(tmp_path / "one")["futures"], numbers(tmp_path / "two")["futures"]
    assert np.array_equal(one[0], two[1])


@pytest.mark.parametrize("horizon", [1, 6, 15])
def test_horizon(model, video, tmp_path, horizon):
    assert sample(model, video, tmp_path / "out", "--horizon", str(horizon)) == 0
    found = numbers(tmp_path / "out")
    assert found["futures"].shape[2] == horizon and found["y_frames"].tolist() == [min(horizon, 8)]


def test_the_past_is_encoded_once_for_all_futures(model, video, tmp_path, monkeypatch):
    calls, real = [], PixelEnergy.encode
    monkeypatch.setattr(PixelEnergy, "encode", lambda self, x: calls.append(len(x)) or real(self, x))
    assert sample(model, video, tmp_path / "out", "--futures", "50") == 0
    assert calls == [1]


def test_many_futures_come_in_chunks_that_all_differ(model, video, tmp_path, monkeypatch):
    tool = load_tool("sample")
    energy, past = models.model("gaussian_learned"), Past("p", np.full((4, 1, 32, 32), 99, np.uint8), np.empty((0, 1, 32, 32), np.uint8))
    monkeypatch.setattr(tool, "CHUNK_BYTES", 2 * 4 * 6 * 32 * 32)
    made = tool.draw(energy, past, 5, 0, 6)
    assert made.shape == (5, 6, 1, 32, 32)
    assert len({future.tobytes() for future in made}) == 5


def test_a_folder(model, video, tmp_path, capsys):
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"\0" * 500)
    assert sample(model, str(tmp_path / "videos"), tmp_path / "out", "--start", "0", "1", "2", "--limit", "2") == 0
    assert numbers(tmp_path / "out")["names"].tolist() == ["walk.v2-000000", "walk.v2-000001"]
    assert "passed over" in (told := capsys.readouterr().out) and "broken.mp4" in told


@pytest.mark.parametrize(
    ("more", "says"),
    [(["--futures", "0"], "--futures is at least 1"), (["--horizon", "0"], "--horizon is at least 1"), (["--limit", "-1"], "--limit is"),
     (["--start", "99s"], "does not fit"), (["--start", "x"], "a start is"), (["--input", "nowhere"], "there is no 'nowhere'"),
     (["--device", "abacus"], "'abacus' cannot be used")],
)  # fmt: skip
def test_mistakes_end_in_one_line(model, video, tmp_path, capsys, more, says):
    assert sample(model, video, tmp_path / "out", *more) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and says in told
    assert not (tmp_path / "out").exists()


def test_an_encoder_has_no_futures(video, tmp_path, capsys):
    export(Opened(models.model("vq"), {}, {}, ""), tmp_path / "encoder")
    assert sample(str(tmp_path / "encoder"), video, tmp_path / "out") == 2
    assert "holds an encoder only" in capsys.readouterr().err


def test_no_room_leaves_what_was_there(model, video, tmp_path, capsys, monkeypatch):
    assert sample(model, video, tmp_path / "out") == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    capsys.readouterr()
    monkeypatch.setattr("os.fsync", full)
    assert sample(model, video, tmp_path / "out", "--seed", "5") == 2
    told = capsys.readouterr().err
    assert "No space left" in told and "Traceback" not in told
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_the_energy_chooses_among_draws_and_refines_them(video, tmp_path, capsys):
    torch.manual_seed(3)
    critic = ClipCritic(4, 6, 1, 32, width=4, depth=3, reach=2)
    energy = CriticEnergy(models.model("gaussian_learned"), critic).eval()
    with torch.no_grad():
        critic.head.weight.mul_(20)
    export(Opened(energy, {"stride": 2}, {}, ""), tmp_path / "judged", "model")
    found = {}
    for name, more in (("all", []), ("best", ["--among", "4"]), ("walked", ["--among", "4", "--steps", "3", "--rate", "0.5"])):
        assert sample(str(tmp_path / "judged"), video, tmp_path / name, "--futures", "12" if name == "all" else "3", *more) == 0
        found[name] = numbers(tmp_path / name)
    x = torch.from_numpy(found["all"]["x"][0])[None] / 255
    free = {name: torch.cat([energy.free_energy(x, torch.from_numpy(y)[None] / 255) for y in futures["futures"][0]]).detach() for name, futures in found.items()}
    assert torch.allclose(free["best"], free["all"].view(3, 4).amin(1), atol=1e-6) and bool((free["walked"] < free["best"]).all())
    assert sample(str(tmp_path / "judged"), video, tmp_path / "no", "--among", "2", "--horizon", "9") == 2
    assert "the energy scores futures of 6 frames; got --horizon 9" in capsys.readouterr().err
    for name, more in (("odds", ["--among", "4", "--temperature", "1"]), ("noisy", ["--among", "4", "--steps", "3", "--rate", "0.5", "--temperature", "1e-5"])):
        assert sample(str(tmp_path / "judged"), video, tmp_path / name, "--futures", "3", *more) == 0
        found[name] = numbers(tmp_path / name)
    groups = found["all"]["futures"][0].reshape(3, 4, -1)
    assert all((found["odds"]["futures"][0][i].reshape(-1) == groups[i]).all(1).any() for i in range(3))
    assert not (found["noisy"]["futures"] == found["walked"]["futures"]).all()
    assert sample(str(tmp_path / "judged"), video, tmp_path / "no", "--temperature", "1") == 2
    assert "--temperature is of a choice or of a walk" in capsys.readouterr().err
    assert sample(str(tmp_path / "judged"), video, tmp_path / "no", "--among", "2", "--temperature", "-1") == 2
    assert sample(str(tmp_path / "judged"), video, tmp_path / "no", "--steps", "-1") == 2
