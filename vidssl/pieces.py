"""Checkpoints in pieces: a folder that several processes write, each its own rows, and that one process reads like a single file.

``rank-R-of-W.safetensors`` holds the rows of process R. ``index.json`` holds everything else as plain JSON: the tree of values, for each tensor its
type, shape and which file has which rows, the size and SHA-256 of each file, and a SHA-256 of itself. Nothing in such a folder is a
pickle and nothing in it is run; whatever the index says is held against the files before memory is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vidssl.files import sha256_of
from vidssl.types import UserError

INDEX = "index.json"
FORMAT = 1
NAME = re.compile(r"rank-\d+-of-\d+\.safetensors")
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32", torch.int16: "I16",
    torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""As safetensors calls them."""
CODES = {code: dtype for dtype, code in TYPES.items()}
Keys = tuple[Any, ...]
"""Where in a checkpoint something is: keys of dictionaries and places in lists, from the outside in."""


class Stored:
    """A tensor in a checkpoint that is read when it is asked for: all of it, or some rows.

    Args:
        shape, dtype: of the whole.
        pieces: (what gives a piece's rows by a slice, first row, row after its last), in order; for a tensor without axes one piece.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, pieces: list[tuple[Any, int, int]]) -> None:
        self.shape, self.dtype, self.pieces = shape, dtype, pieces

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows from `start` to before `stop`, ``[stop - start, ...]``, on the CPU."""
        made, done = torch.empty(max(0, stop - start), *self.shape[1:], dtype=self.dtype), 0
        for piece, first, after in self.pieces:
            low, high = max(start, first), min(stop, after)
            if low < high:
                made[done : done + high - low] = piece[low - first : high - first]
                done += high - low
        return made

    def whole(self) -> Tensor:
        """All of it, on the CPU."""
        return self.rows(0, self.shape[0]) if self.shape else self.pieces[0][0][...]


def whole(keys: Keys, stored: Stored) -> Tensor:
    """A tensor as one process reads it."""
    return stored.whole()


def in_pieces(path: Path) -> bool:
    """Whether `path` is a checkpoint in pieces, whole or not."""
    return path.is_dir() and ((path / INDEX).is_file() or any(NAME.fullmatch(p.name) for p in path.iterdir()))


def read_folder(path: str | Path, place: Callable[[Keys, Stored], Any] = whole, part: tuple[int, int] = (0, 1)) -> dict[str, Any]:
    """The checkpoint in a folder, as ``torch.load`` gives one that is a single file.

    Args:
        path: the folder.
        place: makes of each tensor what stands in its place; what it does not read is not read.
        part: see :func:`verify_folder`.

    Raises:
        UserError: as :func:`verify_folder`, or the index does not fit the files, or is not of vidssl.
    """
    path = Path(path)
    index = verify_folder(path, part)
    files: dict[str, Any] = {}
    try:
        for name in index["files"]:
            files[name] = safe_open(path / name, "pt")
        made = _decoded(index["tree"], (), files, place)
    except (SafetensorError, KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
        raise UserError(f"the index of {str(path)!r} does not fit its files ({type(error).__name__}: {' '.join(str(error).split())[:120]}): use another checkpoint") from error
    if not isinstance(made, dict) or not isinstance(made.get("vidssl"), dict):
        raise UserError(f"{str(path)!r} is a checkpoint, but not one that vidssl wrote: it has no 'vidssl' record")
    return made


def verify_folder(path: str | Path, part: tuple[int, int] = (0, 1)) -> dict[str, Any]:
    """The index of a folder that is what was written.

    Args:
        path: the folder.
        part: (which, of how many): the digests of only so much are compared, where several processes share the work; sizes always all.

    Raises:
        UserError: naming the file that is missing, truncated or altered.
    """
    path = Path(path)
    index = _index(path)
    for number, (name, (size, digest)) in enumerate(index["files"].items()):
        file = path / name
        if not file.is_file():
            raise UserError(f"{name!r} is missing in the checkpoint {str(path)!r}: copy the whole folder, or use an older one")
        if file.stat().st_size != size:
            raise UserError(f"{name!r} of the checkpoint {str(path)!r} has {file.stat().st_size} bytes of {size}: use an older one")
        if number % part[1] == part[0] and sha256_of(file) != digest:
            raise UserError(f"{name!r} of the checkpoint {str(path)!r} is not what was written (its SHA-256 differs): use an older one")
    return index


def _index(path: Path) -> dict[str, Any]:
    file = path / INDEX
    if not file.is_file():
        raise UserError(f"{INDEX!r} is missing in {str(path)!r}, so it is no whole checkpoint: use an older one")
    try:
        found = json.loads(file.read_bytes())
        index, digest = found["checkpoint"], found["sha256"]
        same = digest == _digest(index)
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise UserError(f"{INDEX!r} of the checkpoint {str(path)!r} is no whole index ({type(error).__name__}): use an older one") from error
    if not same:
        raise UserError(f"{INDEX!r} of the checkpoint {str(path)!r} is not what was written (its SHA-256 differs): use an older one")
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f"this vidssl opens checkpoints in pieces of format {FORMAT}; {str(path)!r} is of another: use the vidssl that wrote it")
    files = index.get("files")
    if not isinstance(files, dict) or not all(
        NAME.fullmatch(name) and isinstance(known, list) and len(known) == 2 and type(known[0]) is int and isinstance(known[1], str) for name, known in files.items()
    ):
        raise UserError(f"{INDEX!r} of {str(path)!r} names files that no checkpoint has: use another checkpoint")
    return index


def write_index(folder: Path, tree: Any, files: dict[str, tuple[int, str]]) -> None:
    """Write the index of a folder whose files are there, and flush it to the disk."""
    index = {"format": FORMAT, "files": {name: list(known) for name, known in files.items()}, "tree": tree}
    with open(folder / INDEX, "w", encoding="utf-8") as file:
        json.dump({"checkpoint": index, "sha256": _digest(index)}, file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def _digest(index: Any) -> str:
    return hashlib.sha256(json.dumps(index, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def write_piece(path: Path, tensors: dict[str, Tensor]) -> tuple[int, str]:
    """Write a safetensors file, one tensor in memory at a time, flush it to the disk and read it back.

    Returns:
        Its size and SHA-256.

    Raises:
        OSError: no room, or the disk does not give back what was written.
        UserError: a type that cannot be written.
    """
    header, end = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": code_of(tensor, name), "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            file.write(part)
            digest.update(part)
        for tensor in tensors.values():
            data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            file.write(data)
            digest.update(data)
        file.flush()
        os.fsync(file.fileno())
    if sha256_of(path) != digest.hexdigest():
        raise OSError(f"{path.name} is not what was written")
    return path.stat().st_size, digest.hexdigest()


def code_of(tensor: Tensor, name: str) -> str:
    """What safetensors calls a tensor's type.

    Raises:
        UserError: it has no name for it.
    """
    if tensor.dtype not in TYPES:
        raise UserError(f"a checkpoint in pieces holds {', '.join(str(t) for t in TYPES)}; {name!r} is {tensor.dtype}: make it one of them")
    return TYPES[tensor.dtype]


def encoded(value: Any, describe: Callable[[Keys, Tensor], dict[str, Any]], keys: Keys = ()) -> Any:
    """A tree of plain values and tensors as JSON; `describe` says of each tensor where its rows are.

    Raises:
        UserError: neither a plain value nor a tensor.
    """
    below = partial(encoded, describe=describe)
    if isinstance(value, Tensor):
        return {"$tensor": describe(keys, value)}
    if isinstance(value, dict) and all(type(key) in (str, int) for key in value):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: below(each, keys=(*keys, key)) for key, each in value.items()}
        return {"$items": [[key, below(each, keys=(*keys, key))] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        made = [below(each, keys=(*keys, place)) for place, each in enumerate(value)]
        return {"$tuple": made} if isinstance(value, tuple) else made
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    raise UserError(f"a checkpoint holds tensors and plain values; {'/'.join(map(str, keys))} is a {type(value).__name__}: let its state_dict give plain values")


def _decoded(tree: Any, keys: Keys, files: dict[str, Any], place: Callable[[Keys, Stored], Any]) -> Any:
    """The reverse of :func:`encoded`."""
    if isinstance(tree, list):
        return [_decoded(each, (*keys, number), files, place) for number, each in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    if "$tensor" in tree:
        return place(keys, _stored(tree["$tensor"], files))
    if "$tuple" in tree:
        return tuple(_decoded(tree["$tuple"], keys, files, place))
    if "$items" in tree:
        return {key: _decoded(each, (*keys, key), files, place) for key, each in tree["$items"]}
    if "$float" in tree:
        return float(tree["$float"])
    return {key: _decoded(each, (*keys, key), files, place) for key, each in tree.items()}


def _stored(told: dict[str, Any], files: dict[str, Any]) -> Stored:
    """What the index tells of a tensor, held against the files: no more rows than they have, none twice, none left out."""
    key, code, shape = told["key"], told["dtype"], [int(n) for n in told["shape"]]
    pieces, end = [], 0
    for name, start, stop in told["pieces"]:
        piece = files[name].get_slice(key)
        rows = [stop - start, *shape[1:]] if shape else []
        if start != end or piece.get_dtype() != code or piece.get_shape() != rows:
            raise ValueError(f"{key} in {name}")
        pieces.append((files[name].get_tensor(key) if not shape else piece, start, stop))
        end = stop
    if len({name for name, _, _ in told["pieces"]}) != len(pieces) or (end != shape[0] if shape else len(pieces) != 1):
        raise ValueError(f"{key} is not whole")
    return Stored(tuple(shape), CODES[code], pieces)
