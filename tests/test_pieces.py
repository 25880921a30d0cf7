"""Checkpoints in pieces: what was written comes back, what was changed is named, and nothing in them is run."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vidssl.pieces import INDEX, Stored, _digest, in_pieces, read_folder, verify_folder
from vidssl.training.sharded_files import Unwritten, save_folder
from vidssl.types import UserError

RECORD = {"format": 1, "energy": {}}
PIECE = "rank-0-of-1.safetensors"


def checkpoint() -> dict[str, Any]:
    """One of every kind of value."""
    g = torch.Generator().manual_seed(0)
    return {
        "vidssl": RECORD,
        "state_dict": {"w": torch.randn(5, 3, generator=g), "half": torch.randn(4, generator=g).bfloat16(), "on": torch.tensor([True, False]), "n": torch.tensor(7)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0), "m": torch.randn(5, 3, generator=g).t()}}, "param_groups": [{"betas": (0.9, 0.98), "params": [0, 1]}]}],
        "plain": {"none": None, "yes": True, "many": [1, -2.5, "text", math.inf, math.nan], "$odd": {3: "three", "3": "text"}, "empty": torch.empty(0, 2), "void": {}},
    }


def same(a: Any, b: Any) -> bool:
    """Whether two trees are the same in kind and value, to the bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a and b != b)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in one piece."""
    save_folder(checkpoint(), tmp_path / "step=4.ckpt")
    return tmp_path / "step=4.ckpt"


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the index and make its digest right again, as somebody who means it would."""
    index = json.loads((folder / INDEX).read_text())["checkpoint"]
    change(index)
    (folder / INDEX).write_text(json.dumps({"checkpoint": index, "sha256": _digest(index)}))


def test_what_was_written_comes_back(folder: Path) -> None:
    assert same(read_folder(folder), checkpoint())
    assert sorted(p.name for p in folder.iterdir()) == [INDEX, PIECE] and [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_writing_again_replaces_a_folder_and_a_file(folder: Path) -> None:
    save_folder(checkpoint() | {"plain": 1}, folder)
    assert read_folder(folder)["plain"] == 1
    file = folder.with_name("step=5.ckpt")
    file.write_text("a file of that name")
    save_folder(checkpoint() | {"plain": 2}, file)
    assert read_folder(file)["plain"] == 2 and len(list(folder.parent.iterdir())) == 2


def test_only_what_is_asked_for_is_read(folder: Path) -> None:
    made = read_folder(folder, lambda keys, stored: stored.rows(1, 3) if keys == ("state_dict", "w") else None)
    assert torch.equal(made["state_dict"]["w"], checkpoint()["state_dict"]["w"][1:3]) and made["state_dict"]["n"] is None


def test_rows_are_found_across_pieces() -> None:
    whole = torch.arange(20).view(10, 2)
    stored = Stored((10, 2), torch.int64, [(whole[:4], 0, 4), (whole[4:5], 4, 5), (whole[5:], 5, 10)])
    assert all(torch.equal(stored.rows(a, b), whole[a:b]) for a in range(11) for b in range(a, 11)) and torch.equal(stored.whole(), whole)


@pytest.mark.parametrize("name", [PIECE, INDEX])
@pytest.mark.parametrize("harm", ["gone", "short", "changed"])
def test_a_damaged_file_is_named(folder: Path, name: str, harm: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-20] ^= 1
    {
        "gone": lambda: (folder / name).unlink(),
        "short": lambda: os.truncate(folder / name, len(data) // 2),
        "changed": lambda: (folder / name).write_bytes(data),
    }[harm]()
    for opened in (verify_folder, read_folder):
        with pytest.raises(UserError, match=name):
            opened(folder)
    assert in_pieces(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "sub/rank-0-of-1.safetensors", "rank-0-of-1.safetensors\n", "values.pkl"])
def test_an_index_names_files_of_its_own_folder_only(folder: Path, name: str) -> None:
    rewritten(folder, lambda index: index["files"].update({name: [1, "0"]}))
    with pytest.raises(UserError, match="names files that no checkpoint has"):
        read_folder(folder)


def tensor(index: dict[str, Any]) -> dict[str, Any]:
    """What an index tells of one tensor of shape [5, 3]."""
    return index["tree"]["state_dict"]["w"]["$tensor"]


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(shape=[1 << 40, 3]),
        lambda told: told.update(shape=[5, 4]),
        lambda told: told.update(dtype="F64"),
        lambda told: told.update(key="other"),
        lambda told: told.update(pieces=[]),
        lambda told: told.update(pieces=told["pieces"] * 2),
        lambda told: told.update(pieces=[[PIECE, 0, 5], [PIECE, 5, 10]], shape=[10, 3]),
        lambda told: told.update(pieces=[["rank-1-of-2.safetensors", 0, 5]]),
        lambda told: told.pop("pieces"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused_before_memory_is_asked_for(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewritten(folder, lambda index: change(tensor(index)))
    with pytest.raises(UserError, match="does not fit its files"):
        read_folder(folder)


class Harm:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("name", [PIECE, INDEX, ".metadata", "__0_0.distcp", "meta.pt"])
def test_pickles_in_a_folder_are_not_run(folder: Path, tmp_path: Path, name: str) -> None:
    proof, data = tmp_path / "run", pickle.dumps(Harm(tmp_path / "run"))
    (folder / name).write_bytes(data)
    if name == PIECE:
        import hashlib

        rewritten(folder, lambda index: index["files"].update({name: [len(data), hashlib.sha256(data).hexdigest()]}))
    if name in (PIECE, INDEX):
        with pytest.raises(UserError, match="index"):
            read_folder(folder)
    else:
        assert same(read_folder(folder), checkpoint())
    assert not proof.exists()
    pickle.loads(data)
    assert proof.exists()  # it would have been


def test_other_checkpoints_are_refused(folder: Path) -> None:
    rewritten(folder, lambda index: index["tree"].pop("vidssl"))
    with pytest.raises(UserError, match="no 'vidssl' record"):
        read_folder(folder)
    rewritten(folder, lambda index: index.update(format=2))
    with pytest.raises(UserError, match="of format 1"):
        read_folder(folder)


def test_what_cannot_be_written_is_refused_and_leaves_the_former(folder: Path) -> None:
    for bad, told in (({"plain": {"path": Path()}}, "plain/path is a PosixPath"), ({"state_dict": {"w": torch.tensor([1.0, math.nan])}}, "'w' is not")):
        with pytest.raises(UserError, match=told) as caught:
            save_folder(checkpoint() | bad, folder)
        assert not isinstance(caught.value, Unwritten)
    assert same(read_folder(folder), checkpoint()) and len(list(folder.parent.iterdir())) == 1
