"""Every format is opened by a way that is not ours and gives the model's features; what cannot be written leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import video

from vidssl.cli import main as command
from vidssl.energy.joint import SiameseJoint
from vidssl.export.card import Opened
from vidssl.export.formats import FORMATS, base
from vidssl.export.formats import onnx as onnx_format
from vidssl.export.load import load_encoder
from vidssl.export.write import export
from vidssl.files import sha256_of
from vidssl.nets.encoders import ClipEncoder, Encoder
from vidssl.nets.heads import MLPHead
from vidssl.nets.torchvision_encoder import TorchvisionEncoder
from vidssl.nets.vit import VideoViT
from vidssl.spec import spec_of
from vidssl.types import UserError

DATA, RECORD = {"data": "Fork", "resize": "area, shorter side, centre crop", "stride": 2, "fps": 12.5}, {"steps": 7, "seed": 3}
ENCODERS = {
    "clip": lambda: ClipEncoder(4, 1, 16, 1),
    "vit": lambda: VideoViT(4, 1, 32, 24, depth=2, heads=3),
    "mc3_18": lambda: TorchvisionEncoder("mc3_18", 4, 1, 32, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4]),
    "r3d_18": lambda: TorchvisionEncoder("r3d_18", 4, 1, 32),
}
TRANSLATED = ["clip", "vit", pytest.param("r3d_18", marks=pytest.mark.slow)]
PLAIN = ["clip", "vit", "mc3_18"]


def opened(name: str = "clip") -> Opened:
    """A model whose encoder sees the last 4 of 6 frames, its weights shaken so that zeros at the start hide nothing."""
    torch.manual_seed(0)
    encoder = ENCODERS[name]()
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(0.05 * p.std().nan_to_num() * torch.randn_like(p) + 0.01 * torch.randn_like(p))
    return Opened(SiameseJoint(32, 6, 6, encoder, MLPHead(encoder.width, 8, 8)).eval(), DATA, RECORD, "0" * 64)


def clips(n: int) -> Tensor:
    return torch.rand(n, 6, 1, 32, 32, generator=torch.Generator().manual_seed(n))


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(found: Tensor, told: Tensor) -> None:
    torch.testing.assert_close(found, told, rtol=1e-5, atol=1e-5)
    assert float(told.std()) > 1e-2


def by_hand(spec: dict) -> nn.Module:
    """The class that a card names, made without :func:`vidssl.spec.build`."""
    module, _, name = spec["class_path"].rpartition(".")
    return getattr(import_module(module), name)(**spec["init_args"]).eval()


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("form", ["safetensors", "hf"])
def test_safetensors_by_hand(tmp_path, name, form):
    model = opened(name)
    card, x = export(model, tmp_path / "out", form=form), clips(3)
    encoder = by_hand(json.loads((tmp_path / "out" / "card.json").read_text())["model"])
    encoder.load_state_dict(load_file(tmp_path / "out" / card["weights"]["file"]), strict=True)
    with torch.inference_mode():
        told = model.energy.encode(x)
        same(encoder(x[:, -4:]), told)
        assert torch.equal(load_encoder(tmp_path / "out").encode(x[:, -4:]), told)
        assert torch.equal(load_encoder(tmp_path / "out" / card["weights"]["file"]).encode(x[:, -4:]), told)
    assert (card["input"]["frames"], card["output"]["features"]) == (4, list(told.shape[1:]))


@pytest.mark.parametrize("name", ["clip", "vit"])
def test_a_state_dict_of_our_own_class(tmp_path, name):
    model = opened(name)
    card, x = export(model, tmp_path / "out", form="state_dict"), clips(3)
    tensors = torch.load(tmp_path / "out" / "encoder.pth", weights_only=True)
    assert tensors.keys() == model.energy.encoder.state_dict().keys()
    encoder = by_hand(card["model"])
    encoder.load_state_dict(tensors, strict=True)
    with torch.inference_mode():
        same(encoder(x[:, -4:]), model.energy.encode(x))


@pytest.mark.parametrize("name", ["mc3_18", "r3d_18"])
def test_a_state_dict_of_torchvisions_class(tmp_path, name):
    model = opened(name)
    card, x = export(model, tmp_path / "out", form="state_dict"), clips(3)
    net = getattr(video, name)()
    net.load_state_dict(torch.load(tmp_path / "out" / "encoder.pth", weights_only=True), strict=True)
    about = json.loads((tmp_path / "out" / "card.json").read_text())["weights"]
    assert about["class"] == f"torchvision.models.video.{name}" and about["untrained"] == ["fc.bias", "fc.weight"] and "zeros" in about["note"]
    mean, std = (torch.tensor(about[key])[:, None, None] for key in ("mean", "std"))
    assert about["least"] == {"frames": 1, "size": 1} and float(std[1]) == pytest.approx(0.3 if name == "mc3_18" else 1)
    seen = ((x[:, -4:].expand(-1, -1, 3, -1, -1) - mean) / std).transpose(1, 2)
    net.fc.register_forward_pre_hook(lambda _, given: pooled.append(given[0]))
    pooled: list[Tensor] = []
    with torch.inference_mode():
        logits = net.eval()(seen)
        same(pooled[0], model.energy.encode(x).mean((2, 3)))
    assert torch.equal(logits, torch.zeros(3, 400)) and card["weights"]["sha256"] == sha256_of(tmp_path / "out" / "encoder.pth")


@pytest.mark.parametrize("name", TRANSLATED)
def test_onnx_in_onnxruntime_at_other_batch_sizes(tmp_path, name):
    model = opened(name)
    card = export(model, tmp_path / "out", form="onnx")
    assert sorted(listing(tmp_path)) == ["out/card.json", "out/encoder.onnx"]
    graph = onnx.load(tmp_path / "out" / "encoder.onnx")
    onnx.checker.check_model(graph, full_check=True)
    (given,) = graph.graph.input
    axes = [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert given.name == "clip" and isinstance(axes[0], str) and axes[1:] == [4, 1, 32, 32]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx")
    for n in (1, 2, 5):
        x = clips(n)
        with torch.inference_mode():
            (found,) = session.run(None, {"clip": np.ascontiguousarray(x[:, -4:].numpy())})
            same(torch.from_numpy(found), model.energy.encode(x))
    assert 0 <= card["weights"]["largest_difference"] < 1e-4 and card["weights"]["compared"] == f"onnxruntime {onnxruntime.__version__}"


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_program_of_torch_export_at_other_batch_sizes(tmp_path, name):
    model = opened(name)
    export(model, tmp_path / "out", form="pt2")
    assert sorted(listing(tmp_path)) == ["out/card.json", "out/encoder.pt2"]
    program = torch.export.load(tmp_path / "out" / "encoder.pt2").module()
    for n in (1, 2, 5):
        x = clips(n)
        with torch.inference_mode():
            same(program(x[:, -4:]), model.energy.encode(x))


@pytest.mark.slow
def test_a_program_needs_torch_alone(tmp_path):
    model = opened("vit")
    export(model, tmp_path / "out", form="pt2")
    with torch.inference_mode():
        torch.save({"x": clips(2)[:, -4:], "told": model.energy.encode(clips(2))}, tmp_path / "told.pth")
    code = (
        "import sys, torch\n"
        "told = torch.load(sys.argv[2], weights_only=True)\n"
        "torch.testing.assert_close(torch.export.load(sys.argv[1]).module()(told['x']), told['told'], rtol=1e-5, atol=1e-5)\n"
        "assert not [name for name in sys.modules if name.startswith('vidssl')]"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out" / "encoder.pt2"), str(tmp_path / "told.pth")], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_hubs_files_say_what_the_card_says(tmp_path):
    model = opened("vit")
    card = export(model, tmp_path / "out", form="hf")
    assert sorted(listing(tmp_path / "out")) == ["README.md", "card.json", "config.json", "model.safetensors", "preprocessor_config.json"]
    config, before = (json.loads((tmp_path / "out" / name).read_text()) for name in ("config.json", "preprocessor_config.json"))
    sizes = [config[k] for k in ("hidden_size", "image_size", "num_channels", "num_frames", "patch_size")]
    assert sizes == [24, 32, 1, 4, 8] and config["architectures"] == ["VideoViT"] and config["vidssl"]["encoder"] == spec_of(model.energy.encoder)
    taken = [before[k] for k in ("num_frames", "frame_stride", "fps", "resample", "do_normalize", "image_mean", "image_std", "size", "crop_size")]
    assert taken == [4, 2, 12.5, 4, False, [0.0], [1.0], {"shortest_edge": 32}, {"height": 32, "width": 32}]
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(pixels * before["rescale_factor"], pixels / 255)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    readme = (tmp_path / "out" / "README.md").read_text()
    _, front, body = readme.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "vidssl" and card["weights"]["sha256"] in body and '- data: "Fork"' in body and "- steps: 7" in body


def test_the_code_of_the_hubs_readme_runs(tmp_path):
    model, x = opened("clip"), clips(2)[:, -4:]
    export(model, tmp_path / "out", form="hf")
    first, second = (part.split("```")[0] for part in (tmp_path / "out" / "README.md").read_text().split("```python\n")[1:])
    names: dict = {"clip": x}
    exec(first.replace("PATH OF THIS FOLDER", str(tmp_path / "out")), names)  # noqa: S102
    there = os.getcwd()
    os.chdir(tmp_path / "out")
    try:
        exec(second, names)  # noqa: S102
    finally:
        os.chdir(there)
    with torch.inference_mode():
        told = model.energy.encode(x)
        same(names["features"].detach(), told)
        same(names["encoder"](x), told)


def test_the_hub_reads_the_readme(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    export(opened(), tmp_path / "out", form="hf")
    told = hub.ModelCard.load(tmp_path / "out" / "README.md").data.to_dict()
    assert told["library_name"] == "vidssl" and told["pipeline_tag"] == "feature-extraction" and "video" in told["tags"]


def test_one_format_replaces_another_and_nothing_else(tmp_path):
    for form in ("hf", "state_dict", "hf", "safetensors"):
        export(opened(), tmp_path / "out", form=form)
        assert sorted(listing(tmp_path / "out")) == sorted(["card.json", FORMATS[form].files["encoder"], *FORMATS[form].beside])
    (tmp_path / "out" / "README.md").write_text("mine")  # a file of another format is a stranger in this one
    before = listing(tmp_path)
    with pytest.raises(UserError, match=r"holds 'README\.md'"):
        export(opened(), tmp_path / "out", form="hf")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("form", ["hf", "state_dict"])
@pytest.mark.parametrize("after", range(3))
def test_no_room_on_the_way_leaves_what_was_there(tmp_path, monkeypatch, form, after):
    export(opened("vit"), tmp_path / "out", form="hf")
    there, count, real = listing(tmp_path), iter(range(99)), os.fsync

    def full(handle):
        if next(count) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        export(opened("clip"), tmp_path / "out", form=form)
    monkeypatch.undo()
    assert listing(tmp_path) == there and [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["state_dict", "onnx", "pt2"])
def test_what_is_for_other_programs_says_how_they_open_it(tmp_path, monkeypatch, form):
    monkeypatch.setattr(type(FORMATS[form]), "encode", lambda self, part, clip: (b"bytes", {}))  # the card is what is looked at
    export(opened(), tmp_path / "out", form=form)
    with pytest.raises(UserError, match=rf"opens here as safetensors or hf; .*out' is {form}: open it with .*encoder\.{FORMATS[form].files['encoder'][8:]}"):
        load_encoder(tmp_path / "out")


def test_a_card_of_before_there_were_formats(tmp_path):
    export(opened(), tmp_path / "out")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    del card["weights"]["format"]
    (tmp_path / "out" / "card.json").write_text(json.dumps(card))
    load_encoder(tmp_path / "out")
    for bent in ("zip", "onnx", 3, None, ["hf"]):
        card["weights"]["format"] = bent
        (tmp_path / "out" / "card.json").write_text(json.dumps(card))
        with pytest.raises(UserError, match="not a card as vidssl writes it"):
            load_encoder(tmp_path / "out")


def test_what_is_asked_for_and_cannot_be_had(tmp_path):
    with pytest.raises(UserError, match="exports as safetensors, state_dict, onnx, pt2, hf; got 'tf'"):
        export(opened(), tmp_path / "out", form="tf")
    for form in ("state_dict", "onnx", "pt2", "hf"):
        with pytest.raises(UserError, match=f"a whole model leaves as safetensors; got '{form}': export its encoder"):
            export(opened(), tmp_path / "out", "model", form)
    assert not (tmp_path / "out").exists()


class Grouped(Encoder):
    """A convolution like those that pool in mvit_v2_s: in groups, and without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = 4, 1, 6, 1
        self.wide, self.pool = nn.Conv3d(1, 6, 1), nn.Conv3d(6, 6, 3, padding=1, groups=6, bias=False)

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, T, C, H, W] -> [B, 6, H, W]``."""
        return self.pool(self.wide(clip.transpose(1, 2))).mean(2)


def test_onnx_of_a_convolution_in_groups_without_a_bias():
    part = Grouped().eval()
    data, card = onnx_format.Onnx().encode(part, clips(3)[:, -4:])
    assert 0 <= card["largest_difference"] < 1e-5 and len(data) > 500 and part.pool.bias is None


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, capsys, package):
    export(opened(), tmp_path / "model", "model")
    monkeypatch.setitem(sys.modules, package, None)
    assert command(["export", str(tmp_path / "model"), "--output", str(tmp_path / "out"), "--format", "onnx"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"needs the package {package}" in told and "pip install vidssl[onnx]" in told
    assert not (tmp_path / "out").exists()


def test_more_weights_than_one_onnx_file_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "LIMIT", 1000)
    size = 4 * sum(p.numel() for p in opened().energy.encoder.parameters())
    with pytest.raises(UserError, match=f"holds 1,000 bytes of weights; this encoder has {size:,}"):
        export(opened(), tmp_path / "out", form="onnx")
    assert not (tmp_path / "out").exists()


def test_a_translation_that_gives_other_features_is_not_written(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"features of it differ from the model's own by at most .*; they do by 0\.0?1"):
        base.compare(nn.Identity(), torch.ones(3, 2), [torch.ones(1, 2), torch.ones(3, 2) + 0.01], "it")
    with pytest.raises(UserError, match="they do by nan"):
        base.compare(nn.Identity(), torch.ones(3, 2), [torch.ones(1, 2), torch.full((3, 2), float("nan"))], "it")
    monkeypatch.setattr(base, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="features of the exported program differ"):
        export(opened(), tmp_path / "out", form="pt2")
    assert not (tmp_path / "out").exists()


class Undecided(Encoder):
    """Does one of two things, by what it sees; no graph can say which."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.channels, self.width, self.patch = 4, 1, 1, 1
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, 4, 1, H, W] -> [B, 1, H, W]``."""
        return self.weight * clip[:, 0] if float(clip.mean()) > 0.5 else -clip[:, 0]


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_network_that_cannot_be_traced_is_one_line(tmp_path, form):
    energy = SiameseJoint(32, 4, 4, Undecided(), MLPHead(1, 8, 8)).eval()
    with pytest.raises(UserError, match=r"^Undecided cannot be written as .*: export another format$"):
        export(Opened(energy, DATA, RECORD, "0" * 64), tmp_path / "out", form=form)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["state_dict", "hf"])
def test_the_command_writes_it_and_says_how_it_is_opened(tmp_path, capsys, form):
    export(opened("mc3_18"), tmp_path / "model", "model")
    assert command(["export", str(tmp_path / "model"), "--output", str(tmp_path / "out"), "--format", form]) == 0
    told = capsys.readouterr().out
    assert FORMATS[form].files["encoder"] in told and ("zeros" in told) == (form == "state_dict")
    assert eval(told.rpartition("open it with ")[2], {"torch": torch, "vidssl": import_module("vidssl")})  # noqa: S307
