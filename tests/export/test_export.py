"""What leaves the house comes back the same, and nothing that was there is lost or half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import models
import pytest
import torch
from safetensors.torch import load_file

import vidssl
from vidssl.cli import main as command
from vidssl.export.card import Opened
from vidssl.export.load import load_encoder, open_model
from vidssl.export.write import export
from vidssl.files import sha256_of
from vidssl.spec import build, spec_of
from vidssl.types import UserError

DATA, RECORD = {"data": "Fork", "resize": "area", "stride": 2}, {"steps": 7, "seed": 3}


def opened(energy):
    return Opened(energy, DATA, RECORD, "0" * 64)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", models.LATENTS + models.SEARCHED)
def test_a_whole_model_comes_back(tmp_path, name):
    energy, (x, y) = models.model(name), models.clips()
    export(opened(energy), tmp_path / "out", "model")
    again = vidssl.load(tmp_path / "out")
    assert spec_of(again) == spec_of(energy) and not again.training
    with torch.inference_mode():
        for method in ("energy", "free_energy"):
            assert torch.equal(getattr(again, method)(x, y), getattr(energy, method)(x, y))
        draws = [m.sample(x, 3, torch.Generator().manual_seed(5)) for m in (energy, again)]
    assert torch.equal(*draws)


def test_an_encoder_comes_back_and_takes_bytes(tmp_path):
    energy, (x, _) = models.model("vq"), models.clips()
    card = export(opened(energy), tmp_path / "out")
    encoder = load_encoder(tmp_path / "out")
    bytes_ = (x * 255).byte()
    with torch.inference_mode():
        assert torch.equal(encoder.encode(x), energy.encode(x))
        assert torch.equal(encoder(bytes_), energy.encode(bytes_.float() / 255))
        assert list(encoder.encode(x).shape[1:]) == card["output"]["features"] == [models.WIDTH, 8, 8]
    assert not encoder.training and encoder.card == card


def test_the_card_is_enough_without_this_package(tmp_path):
    energy = models.model("categorical", past=3, channels=3)
    export(opened(energy), tmp_path / "out")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["format"] == 1 and card["what"] == "encoder" and card["vidssl"] == vidssl.__version__
    taken = {k: card["input"][k] for k in ("axes", "frames", "channels", "size", "stride", "resize")}
    assert taken == {"axes": "B T C H W", "frames": 3, "channels": 3, "size": 32, "stride": 2, "resize": "area"}
    assert card["training"] == RECORD and card["data"] == DATA and "Apache-2.0" in card["licence"]
    path = tmp_path / "out" / card["weights"]["file"]
    assert card["weights"]["sha256"] == sha256_of(path)
    tensors = load_file(path)  # plain names, no prefix: they are the encoder's own
    assert tensors.keys() == energy.encoder.state_dict().keys()
    assert card["weights"]["parameters"] == sum(t.numel() for t in tensors.values())
    assert spec_of(build(card["model"])) == card["model"]


def test_origin_travels_and_exports_of_exports_are_equal(tmp_path):
    first = export(opened(models.model("vq")), tmp_path / "a", "model")
    again = open_model(tmp_path / "a")
    assert (again.data, again.record) == (DATA, RECORD)
    assert again.sha256 == first["weights"]["sha256"]
    export(again, tmp_path / "b", "model")
    assert listing(tmp_path / "a") == listing(tmp_path / "b")


def test_an_earlier_export_is_replaced_whole(tmp_path):
    export(opened(models.model("vq")), tmp_path / "out", "model")
    export(opened(models.model("none")), tmp_path / "out", "encoder")
    assert sorted(listing(tmp_path)) == ["out/card.json", "out/encoder.safetensors"]
    load_encoder(tmp_path / "out")


@pytest.mark.parametrize("there", ["notes.txt", "card.json", "encoder.safetensors"])
def test_a_folder_with_anything_else_is_refused_and_untouched(tmp_path, there):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / there).write_text("{}")
    with pytest.raises(UserError, match=r"replaces nothing but an export.*--output"):
        export(opened(models.model("none")), tmp_path / "out")
    assert listing(tmp_path) == {f"out/{there}": b"{}"}


def test_an_export_with_a_stranger_in_it_is_refused(tmp_path):
    export(opened(models.model("none")), tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("precious")
    before = listing(tmp_path)
    with pytest.raises(UserError, match=r"mine\.txt"):
        export(opened(models.model("vq")), tmp_path / "out")
    assert listing(tmp_path) == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="is a file"):
        export(opened(models.model("none")), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize("where", ["fsync", "rename"])
@pytest.mark.parametrize("before", [True, False])
def test_no_room_leaves_what_was_there(tmp_path, monkeypatch, where, before):
    if before:
        export(opened(models.model("vq")), tmp_path / "out")
    there, count = listing(tmp_path), iter(range(9))
    real = getattr(os, where)

    def full(*args):
        if where == "rename" and before and next(count) != 1:  # let the old one move away, and back
            return real(*args)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(OSError, match="No space"):
        export(opened(models.model("none")), tmp_path / "out")
    monkeypatch.undo()
    assert listing(tmp_path) == there
    assert [p.name for p in tmp_path.iterdir()] == (["out"] if before else [])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_full_is_one_line(tmp_path, monkeypatch, capsys):
    export(opened(models.model("none")), tmp_path / "model", "model")
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: real(Path("/dev/full"), data))
    assert command(["export", str(tmp_path / "model"), "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "No space left" in told
    assert sorted(listing(tmp_path)) == ["model/card.json", "model/model.safetensors"]


def test_what_diverged_is_not_exported(tmp_path):
    energy = models.model("none")
    with torch.no_grad():
        energy.encoder.stem.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"'stem\.weight' is not: the run diverged"):
        export(opened(energy), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_part(tmp_path):
    with pytest.raises(UserError, match="'decoder'"):
        export(opened(models.model("none")), tmp_path / "out", "decoder")


def test_the_command_exports_and_says_what_it_wrote(tmp_path, capsys):
    export(opened(models.model("vq")), tmp_path / "model", "model")
    assert command(["export", str(tmp_path / "model"), "--output", str(tmp_path / "encoder")]) == 0
    told = capsys.readouterr().out
    assert "encoder.safetensors" in told and "load_encoder" in told
    assert load_encoder(tmp_path / "encoder").card["training"] == RECORD


def test_loading_needs_no_lightning(tmp_path):
    energy = models.model("vq")
    export(opened(energy), tmp_path / "model", "model")
    record = {"format": 1, "energy": spec_of(energy), "data": DATA, "record": RECORD}
    torch.save({"state_dict": {f"energy.{k}": v for k, v in energy.state_dict().items()}, "vidssl": record}, tmp_path / "last.ckpt")
    code = (
        "import sys, torch, vidssl\n"
        "energy, _ = map(vidssl.load, sys.argv[1:])\n"
        "x = torch.rand(1, 4, 1, 32, 32)\n"
        "assert energy.sample(x, 2).shape == (2, 1, 6, 1, 32, 32)\n"
        "heavy = {'lightning', 'pytorch_lightning', 'jsonargparse', 'av', 'torchvision', 'torchmetrics'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = str(Path(vidssl.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "model"), str(tmp_path / "last.ckpt")], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
