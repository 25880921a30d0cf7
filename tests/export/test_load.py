"""Files that are not what they should be end in one line; nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import models
import pytest
import torch
from safetensors.torch import load_file, save_file

import vidssl
from vidssl.cli import main as command
from vidssl.export import load
from vidssl.export.card import Opened
from vidssl.export.load import load_encoder, open_model
from vidssl.export.write import export
from vidssl.files import sha256_of
from vidssl.spec import spec_of
from vidssl.types import UserError

DATA, RECORD = {"data": "Fork"}, {"steps": 7}


def opened(energy):
    return Opened(energy, DATA, RECORD, "0" * 64)


@pytest.fixture
def exported(tmp_path):
    """A whole exported model."""
    export(opened(models.model("vq")), tmp_path / "model", "model")
    return tmp_path / "model"


def checkpoint(energy=None, **changes):
    """A checkpoint as training writes it."""
    energy = energy or models.model("vq")
    record = {"format": 1, "energy": spec_of(energy), "data": DATA, "record": RECORD}
    state = {f"energy.{k}": v for k, v in energy.state_dict().items()} | {"objective.weight": torch.ones(1)}
    return {"state_dict": state, "vidssl": record, "optimizer_states": [{"step": 3}], "global_step": 7} | changes


def saved(path, content):
    torch.save(content, path)
    return path


def edit_card(folder, **changes):
    card = json.loads((folder / "card.json").read_text())
    for key, value in changes.items():
        *way, last = key.split("__")
        place = card
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    (folder / "card.json").write_text(json.dumps(card))


def edit_tensors(folder, change):
    """A forger's change: the sha256 in the card is brought in line."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    edit_card(folder, weights__sha256=sha256_of(path))


def refused(model, match, capsys):
    """Opening `model` fails with a message that matches, in Python and at the command."""
    with pytest.raises(UserError, match=match):
        vidssl.load(model)
    assert command(["export", str(model), "--output", str(Path(model).parent / "never")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "Traceback" not in told
    assert not (Path(model).parent / "never").exists()


def test_a_checkpoint_opens(tmp_path):
    energy, (x, y) = models.model("vq"), models.clips()
    path = saved(tmp_path / "last.ckpt", checkpoint(energy))
    again = open_model(path)
    assert torch.equal(again.energy.free_energy(x, y), energy.free_energy(x, y))
    assert (again.data, again.record, again.sha256) == (DATA, RECORD, sha256_of(path))


def test_paths_within_an_export_mean_the_export(exported):
    for path in (exported, exported / "card.json", exported / "model.safetensors", str(exported)):
        assert isinstance(vidssl.load(path), type(models.model("vq")))


def test_a_shipped_model_by_name(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "package" / "models" / "tiny")
    monkeypatch.setattr(load, "PACKAGE", tmp_path / "package")
    monkeypatch.chdir(tmp_path / "package")
    assert vidssl.load("tiny").size == 32
    with pytest.raises(UserError, match=r"shipped model \(tiny\); there is no 'tinny'"):
        vidssl.load("tinny")


def test_no_such_model(tmp_path, capsys):
    refused(tmp_path / "nowhere", "a model is a checkpoint, an exported folder or a shipped model", capsys)


def test_a_run_folder_names_its_checkpoints(tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    saved(tmp_path / "run" / "checkpoints" / "last.ckpt", checkpoint())
    refused(tmp_path / "run", r"give one of its checkpoints.*last\.ckpt", capsys)


def test_an_encoder_is_no_model_and_a_model_no_encoder(exported, tmp_path, capsys):
    export(opened(vidssl.load(exported)), tmp_path / "encoder")
    with pytest.raises(UserError, match="load_encoder"):
        vidssl.load(tmp_path / "encoder")
    with pytest.raises(UserError, match=r"vidssl\.load"):
        load_encoder(exported)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "quantum"])
def test_a_device_that_is_not_there(exported, device):
    with pytest.raises(UserError, match=f"'{device}' cannot be used"):
        vidssl.load(exported, device=device)


# ---- exported folders ----


@pytest.mark.parametrize("where", [0, -1, 5000])
def test_an_altered_byte(exported, where, capsys):
    data = bytearray((exported / "model.safetensors").read_bytes())
    data[where] ^= 1
    (exported / "model.safetensors").write_bytes(data)
    refused(exported, "are not those of the card", capsys)


@pytest.mark.parametrize("keep", [0, 7, 1000])
def test_truncated_weights(exported, keep, capsys):
    path = exported / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(exported, "are not those of the card", capsys)
    edit_card(exported, weights__sha256=sha256_of(path))  # even when the card agrees
    refused(exported, "no whole safetensors file", capsys)


def test_missing_weights(exported, capsys):
    (exported / "model.safetensors").unlink()
    refused(exported, "are missing", capsys)


def test_missing_card(exported, capsys):
    (exported / "card.json").unlink()
    refused(exported, r"has a card\.json", capsys)


@pytest.mark.parametrize("text", ["", "{", '{"format": 1', "\udcff", "[" * 100000])
def test_a_card_that_is_no_json(exported, text, capsys):
    (exported / "card.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(exported, "not whole JSON", capsys)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"format": 2}', '{"format": [1]}'])
def test_a_card_of_another_format(exported, text, capsys):
    (exported / "card.json").write_text(text)
    refused(exported, "reads cards of format 1", capsys)


@pytest.mark.parametrize(
    "change",
    [{"what": "decoder"}, {"what": ["model"]}, {"weights": 3}, {"weights__file": "../../secret.safetensors"}, {"weights__sha256": None},
     {"model": None}, {"model": "vidssl"}, {"input": None}, {"training": None}, {"data": []}],
)  # fmt: skip
def test_a_card_with_fields_missing_or_bent(exported, change, capsys):
    edit_card(exported, **change)
    refused(exported, "not a card as vidssl writes it", capsys)


@pytest.mark.parametrize("name", ["os.system", "torch.hub.load", "vidssl.training.task.PredictionTask", "vidssl.files.write_text"])
def test_a_foreign_class_is_not_loaded(exported, name, capsys):
    edit_card(exported, model__class_path=name)
    refused(exported, "which is not loaded", capsys)


def test_a_part_that_is_no_energy(exported, capsys):
    edit_card(exported, model=spec_of(models.model("vq").encoder))
    refused(exported, "a model is an energy", capsys)


def test_an_argument_that_is_not_taken(exported, capsys):
    edit_card(exported, model__init_args__colour="red")
    refused(exported, "cannot be built from the arguments", capsys)


def test_wrong_shapes(exported, capsys):
    edit_card(exported, model__init_args__latent__init_args__classes=9)
    refused(exported, r"'latent\.[a-z_.0-9]+' has shape \[9, \d+\] in the model and \[8, \d+\] in the file", capsys)


def test_missing_and_extra_tensors(exported, capsys):
    edit_tensors(exported, lambda tensors: tensors.pop("encoder.stem.weight"))
    refused(exported, r"1 of \d+ tensors are missing, first 'encoder\.stem\.weight'", capsys)
    edit_tensors(exported, lambda tensors: tensors.update({"encoder.stem.weight": torch.ones(1), "zz": torch.ones(1)}))
    refused(exported, r"1 tensors are too many, first 'zz'", capsys)


def test_weights_that_are_not_finite(exported, capsys):
    edit_tensors(exported, lambda tensors: tensors["encoder.stem.bias"].fill_(float("inf")))
    refused(exported, r"'encoder\.stem\.bias'.*not finite", capsys)


# ---- checkpoints ----


class _Bomb:
    """Unpickling this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["top", "inside", "bare", "legacy"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, place, capsys):
    bomb, path = _Bomb(tmp_path / "boom"), tmp_path / "x.ckpt"
    if place == "bare":
        path.write_bytes(pickle.dumps(bomb))
    else:
        content = bomb if place == "top" else checkpoint(callbacks={"b": bomb})
        torch.save(content, path, _use_new_zipfile_serialization=place != "legacy")
    refused(path, "holds other objects|no checkpoint", capsys)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_a_truncated_checkpoint(tmp_path, keep, capsys):
    path = saved(tmp_path / "x.ckpt", checkpoint())
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(path, "no checkpoint, or only part of one", capsys)


def test_a_flipped_bit_in_a_checkpoint_is_noticed_even_without_its_digest(tmp_path, capsys):
    path = saved(tmp_path / "x.ckpt", checkpoint())
    data = bytearray(path.read_bytes())
    data[data.find(models.model("vq").state_dict()["encoder.stem.weight"].numpy().tobytes()) + 2] ^= 1
    path.write_bytes(data)
    refused(path, "damaged at|only part", capsys)


def test_a_checkpoint_whose_digest_differs(tmp_path, capsys):
    path = saved(tmp_path / "x.ckpt", checkpoint())
    digest = tmp_path / "x.ckpt.sha256"
    digest.write_text(f"{sha256_of(path)}  x.ckpt\n")
    vidssl.load(path)
    saved(path, checkpoint(models.model("vq", seed=1)))
    refused(path, "is not what was written", capsys)
    digest.write_text("")
    refused(path, "is not what was written", capsys)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.ones(3), {"vidssl": 1}])
def test_a_checkpoint_of_another_program(tmp_path, content, capsys):
    refused(saved(tmp_path / "x.ckpt", content), "not one that vidssl wrote", capsys)


def test_files_that_are_no_checkpoints(tmp_path, capsys):
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(999))
    refused(tmp_path / "x.mp4", "no checkpoint", capsys)
    shutil.make_archive(str(tmp_path / "y"), "zip", Path(__file__).parent)
    refused(tmp_path / "y.zip", "no checkpoint", capsys)


def test_a_checkpoint_of_another_class(tmp_path, capsys):
    other = checkpoint()
    other["vidssl"]["energy"] = spec_of(models.model("categorical"))
    refused(saved(tmp_path / "x.ckpt", other), r"tensors are missing, first 'latent\.", capsys)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"format": 2}, "opens checkpoints of format 1"), ({"energy": None}, "a model is an energy"), ({"data": 3}, "has no state_dict"),
     ({"data": {"a": torch.ones(1)}}, "not plain JSON"), ({"record": {"psnr": float("nan")}}, "not plain JSON"),
     ({"energy": {"class_path": "os.system", "init_args": {"command": "true"}}}, "which is not loaded")],
)  # fmt: skip
def test_a_bent_record(tmp_path, changes, match, capsys):
    content = checkpoint()
    content["vidssl"].update(changes)
    refused(saved(tmp_path / "x.ckpt", content), match, capsys)


def test_a_checkpoint_without_tensors(tmp_path, capsys):
    refused(saved(tmp_path / "x.ckpt", checkpoint(state_dict=None)), "has no state_dict", capsys)
    refused(saved(tmp_path / "x.ckpt", checkpoint(state_dict={})), "are missing", capsys)
    tensors = dict.fromkeys(checkpoint()["state_dict"], 3)
    refused(saved(tmp_path / "x.ckpt", checkpoint(state_dict=tensors)), "int in the file", capsys)
