"""Ways to alter a file: bytes of any file, and tokens of JSON and YAML."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import yaml

VALUES: list[Any] = [
    0, -1, 1, 3, 2**31, 2**63, -(2**63), 10**30, 1e308, -0.0, float("nan"), float("inf"), True, None, "", "x" * 5000, "../../../../etc/passwd", "/etc/passwd", "\0", "é\n",
    "os.system", "subprocess.Popen", "torch.hub.load", "builtins.eval", "vidssl.files.sync", "vidssl.data.source.os.system", [], {}, [[]], [1, 2, 3],
    {"class_path": "os.system", "init_args": {"command": "true"}}, {"class_path": "vidssl.nets.encoders.ClipEncoder", "init_args": {}}, 1000, 100_000, 1 << 20,
]  # fmt: skip


def alter(path: Path, rng: random.Random) -> None:
    """Change the file at `path` in place, in one to three ways."""
    if path.suffix in (".json", ".yaml") and rng.random() < 0.7:
        path.write_text(_tokens(path.read_text(), path.suffix == ".json", rng), encoding="utf-8", errors="surrogatepass")
        return
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(BYTES)(data, rng) if data else data
    path.write_bytes(data)


def _span(data: bytearray, rng: random.Random) -> tuple[int, int]:
    """A piece, more often near the ends, where headers are, than in the middle."""
    length = min(len(data), 1 << rng.randint(0, 12))
    room = len(data) - length
    start = rng.choice([rng.randint(0, room), min(room, int(rng.expovariate(1 / 200))), max(0, room - int(rng.expovariate(1 / 200)))])
    return start, start + length


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        data[_span(data, rng)[0] % len(data)] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _span(data, rng)
    data[start:end] = rng.choice([rng.randbytes(end - start), b"\xff" * (end - start), b"\x7f\xff\xff\xff"[: end - start]])
    return data


def _truncate(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.choice([0, 1, 7, rng.randrange(len(data)), len(data) - 1])]


def _extend(data: bytearray, rng: random.Random) -> bytearray:
    return data + rng.choice([b"\0", b"\n", rng.randbytes(rng.randint(1, 5000)), bytes(4096), bytes(data[: rng.randrange(len(data)) + 1])])


def _zero(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _span(data, rng)
    data[start:end] = bytes(end - start)
    return data


def _swap(data: bytearray, rng: random.Random) -> bytearray:
    length = min(len(data) // 2, 1 << rng.randint(0, 12)) or 1
    a, b = (rng.randint(0, len(data) - length) for _ in range(2))
    data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]
    return data


def _double(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _span(data, rng)
    return data[:end] + data[start:end] + data[end:]


def _splice(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _span(data, rng)
    return data[:start] + data[end:] if rng.random() < 0.5 else data[start:] + data[:start]


BYTES = (_flip, _flip, _overwrite, _truncate, _extend, _zero, _swap, _double, _splice)


def _tokens(text: str, is_json: bool, rng: random.Random) -> str:
    tree = json.loads(text) if is_json else yaml.safe_load(text)
    for _ in range(rng.randint(1, 3)):
        tree = _changed(tree, rng)
    if is_json:
        return json.dumps(tree)
    written = yaml.safe_dump(tree)
    return written.replace("class_path: ", "class_path: !!python/name:", 1) if rng.random() < 0.05 else written


def _changed(tree: Any, rng: random.Random) -> Any:
    """A tree with one place in it altered."""
    places: list[tuple[Any, Any]] = []
    _collect(tree, places)
    if not places:
        return copy.deepcopy(rng.choice(VALUES))
    holder, key = rng.choice(places)
    what = rng.random()
    if what < 0.15:
        del holder[key]
    elif what < 0.22:
        deep: Any = holder[key]
        for _ in range(rng.choice([5, 60, 120])):
            deep = [deep] if rng.random() < 0.5 else {"init_args": deep}
        holder[key] = deep
    elif what < 0.3 and isinstance(holder, dict):
        holder[rng.choice(["x", "class_path", "init_args", "dict_kwargs", "__path__", "", "a.b"])] = copy.deepcopy(rng.choice(VALUES))
    elif what < 0.4:
        other, place = rng.choice(places)
        other[place] = json.loads(json.dumps(holder[key]))
    elif what < 0.55 and isinstance(holder[key], int):
        holder[key] = rng.choice([holder[key] + 1, -holder[key], holder[key] * 1000, holder[key] + 0.5, str(holder[key])])
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    return tree


def _collect(tree: Any, places: list[tuple[Any, Any]]) -> None:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        places.append((tree, key))
        _collect(value, places)
