"""Models from strangers: nothing in them runs, nothing that they say takes memory or time before it is held against their size."""

from __future__ import annotations

import builtins
import json
import os
import resource
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import vidssl
from vidssl.export import room
from vidssl.export.card import Opened
from vidssl.export.weights import make
from vidssl.export.write import export
from vidssl.files import sha256_of, zip_harm
from vidssl.nets.torchvision_encoder import TorchvisionEncoder
from vidssl.spec import build, spec_of
from vidssl.training.checkpoints import AtomicCheckpointIO
from vidssl.types import UserError


class Runs:
    """Runs what it is told to when it is unpickled."""

    def __init__(self, call: Callable, *arguments: Any) -> None:
        self.told = call, arguments

    def __reduce__(self) -> tuple:
        return self.told


def checkpoint() -> dict[str, Any]:
    energy = models.model("vq")
    record = {"format": 1, "energy": spec_of(energy), "data": {}, "record": {}}
    return {"state_dict": {f"energy.{k}": v for k, v in energy.state_dict().items()}, "vidssl": record, "hyper_parameters": {}, "callbacks": {}, "optimizer_states": []}


def refused(path: Path) -> str:
    """The one line with which a model is refused, having taken less than a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        vidssl.load(path)
    told = str(caught.value)
    assert "\n" not in told and len(told) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20
    return told


def saved(folder: Path, content: Any, **how: Any) -> Path:
    torch.save(content, folder / "x.ckpt", **how)
    return folder / "x.ckpt"


PAYLOADS = {
    "shell": lambda ran: Runs(os.system, f"touch {ran}"),
    "process": lambda ran: Runs(subprocess.Popen, ["touch", ran]),
    "eval": lambda ran: Runs(builtins.eval, f"open({ran!r}, 'w')"),
    "open": lambda ran: Runs(builtins.open, ran, "w"),
}
PLACES: dict[str, Callable[[dict, Any], Any]] = {
    "state": lambda c, it: c["state_dict"].update({"energy.price": it}),
    "hyper-parameters": lambda c, it: c["hyper_parameters"].update({"_instantiator": it}),
    "optimizer": lambda c, it: c["optimizer_states"].append({"state": it}),
    "callbacks": lambda c, it: c["callbacks"].update({"x": it}),
    "record": lambda c, it: c["vidssl"].update({"energy": it}),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_pickle_runs_nothing(payload: str, place: str, zipped: bool, tmp_path: Path) -> None:
    content, ran = checkpoint(), tmp_path / "ran"
    PLACES[place](content, PAYLOADS[payload](str(ran)))
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    refused(path)
    with pytest.raises(UserError):
        AtomicCheckpointIO().load_checkpoint(path)
    torch.save({"stem.0.weight": PAYLOADS[payload](str(ran))}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="cannot be read"):
        TorchvisionEncoder("r3d_18", 4, 3, 32, weights=str(tmp_path / "w.pth"), mean=[0.5] * 3, std=[0.5] * 3)
    assert not ran.exists()


def test_an_instantiator_by_name_is_a_name(tmp_path: Path) -> None:
    content = checkpoint()
    content["hyper_parameters"] = {"_instantiator": "vidssl.data.source.os.system"}
    assert vidssl.load(saved(tmp_path, content))


TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "one number shown as many": lambda t: torch.zeros(()).expand(t.shape),
    "no memory": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
    "complex": lambda t: t.to(torch.complex64),
    "eight bits": lambda t: t.to(torch.float8_e4m3fn),
    "whole numbers": lambda t: t.long(),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "nested": lambda t: torch.nested.nested_tensor([t]),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.filterwarnings("ignore")
def test_odd_tensors(kind: str, tmp_path: Path) -> None:
    content = checkpoint()
    name = "energy.encoder.stem.weight"
    content["state_dict"][name] = TENSORS[kind](content["state_dict"][name])
    assert "encoder.stem.weight" in refused(saved(tmp_path, content))


def test_lists_that_hold_one_another(tmp_path: Path) -> None:
    bomb: list[Any] = [1] * 9
    for _ in range(15):
        bomb = [bomb] * 9
    for key in ("record", "data", "energy"):
        content = checkpoint()
        content["vidssl"][key] = {"class_path": content["vidssl"]["energy"]["class_path"], "init_args": {"size": bomb}}
        refused(saved(tmp_path, content))


def test_archives_that_unfold(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint())
    packed, doubled = tmp_path / "packed.ckpt", tmp_path / "doubled.ckpt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in whole.infolist():
            archive.writestr(entry.filename, whole.read(entry))
    with zipfile.ZipFile(doubled, "w") as archive:
        archive.writestr("x/0", bytes(1 << 16))
        archive.filelist += [archive.NameToInfo["x/0"]] * 1000
        archive._didModify = True
    assert "compressed" in refused(packed) and "more is in it" in refused(doubled)
    assert "compressed" in zip_harm(packed) and not zip_harm(path)
    with pytest.raises(UserError, match="compressed"):
        TorchvisionEncoder("r3d_18", 4, 3, 32, weights=str(packed), mean=[0.5] * 3, std=[0.5] * 3)


def test_a_digest_and_a_card_of_a_terabyte(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint())
    with open(f"{path}.sha256", "wb") as file:
        file.truncate(1 << 40)
    refused(path)
    folder = tmp_path / "model"
    export(Opened(models.model("vq"), {}, {}, "0" * 64), folder, "model")
    with open(folder / "card.json", "wb") as file:
        file.truncate(1 << 40)
    assert "characters" in refused(folder)


def whole_numbers(node: Any, path: tuple = ()) -> Any:
    """Paths of the whole numbers in a tree."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if type(value) is int:
            yield (*path, key)
        yield from whole_numbers(value, (*path, key))


SPEC = spec_of(models.model("vq"))


@pytest.mark.parametrize("number", [20_000, 1 << 20, 10**15])
@pytest.mark.parametrize("place", list(whole_numbers(SPEC)), ids=lambda p: p if isinstance(p, int) else ".".join(map(str, p)))
def test_numbers_that_would_take_terabytes_or_hours(place: tuple, number: int, tmp_path: Path) -> None:
    content = checkpoint()
    node = content["vidssl"]["energy"]
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = number
    if place == ("init_args", "size") and number <= 1 << 20:
        vidssl.load(saved(tmp_path, content))  # the size of the pictures makes no weights
    else:
        refused(saved(tmp_path, content))


def test_a_large_model_of_small_weights_is_refused_by_what_is_stored(tmp_path: Path) -> None:
    content = checkpoint()
    content["vidssl"]["energy"] = json.loads(json.dumps(SPEC).replace('"width": 16', '"width": 30000'))
    with torch.device("meta"):
        shapes = {name: (value.shape, value.dtype) for name, value in build(content["vidssl"]["energy"]).state_dict().items()}
    content["state_dict"] = {f"energy.{name}": torch.zeros((), dtype=dtype).expand(shape) for name, (shape, dtype) in shapes.items()}
    assert "far larger" in refused(saved(tmp_path, content))


def test_a_card_reads_no_other_file(tmp_path: Path) -> None:
    encoder = TorchvisionEncoder("r3d_18", 4, 3, 32)
    torch.save({}, tmp_path / "w.pth")
    spec = spec_of(encoder)
    spec["init_args"]["weights"] = str(tmp_path / "w.pth")
    with pytest.raises(UserError, match="names the file"):
        make(spec, encoder.state_dict(), "x")


@pytest.mark.parametrize("header", [b"\xff" * 8, (1 << 40).to_bytes(8, "little"), (2).to_bytes(8, "little") + b"{}"])
def test_lying_safetensors(header: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    export(Opened(models.model("vq"), {}, {}, "0" * 64), folder, "model")
    path = folder / "model.safetensors"
    path.write_bytes(header + path.read_bytes()[len(header) :])
    lies = {"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    for content in (path.read_bytes(), (len(json.dumps(lies))).to_bytes(8, "little") + json.dumps(lies).encode()):
        path.write_bytes(content)
        forge(folder)
        refused(folder)


def forge(folder: Path, **changes: Any) -> None:
    """Bring the card in line with the weights, and change it."""
    card = json.loads((folder / "card.json").read_text())
    card["weights"] |= {"sha256": sha256_of(folder / "model.safetensors"), **changes}
    (folder / "card.json").write_text(json.dumps(card))


def test_names_in_a_card_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    export(Opened(models.model("vq"), {}, {}, "0" * 64), folder, "model")
    shutil.copy(folder / "model.safetensors", tmp_path / "other.safetensors")
    for name in ("../other.safetensors", str(tmp_path / "other.safetensors"), "./model.safetensors", "model.safetensors\0", ["model.safetensors"]):
        forge(folder, file=name)
        refused(folder)
    forge(folder, file="model.safetensors")
    assert vidssl.load(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")
    assert "missing" in refused(folder)
    (folder / "model.safetensors").unlink()
    save_file({"x": torch.ones(1)}, tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")  # caches of models are made of links; what they lead to must be what the card says
    assert "not those of the card" in refused(folder)


def test_room_is_left_as_it_was() -> None:
    before = dict(torch.nn.modules.module._global_module_registration_hooks)
    with pytest.raises(UserError, match="far larger"), room.Room(10, 1, "x"):
        torch.ones(1, 1 << 13).T @ torch.ones(1, 1 << 13)
    with pytest.raises(UserError, match="far larger"), room.Room(10, 1, "x"):
        torch.eye(1 << 13)
    with room.Room(10, 1, "x"):
        torch.ones(1 << 10, 1 << 10) @ torch.ones(1 << 10, 1 << 10)
    assert torch.nn.modules.module._global_module_registration_hooks == before


def test_gradients_are_as_they_were_after_a_refusal_within_no_grad() -> None:
    with pytest.raises(UserError, match="far larger"), room.Room(10, 1, "x"), torch.no_grad():
        for _ in range(room.STEPS + 200):
            torch.zeros(1)
    assert torch.is_grad_enabled()
