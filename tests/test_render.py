"""Pictures show what they say: the right frame at the right place in the right border."""

from __future__ import annotations

import errno

import av
import numpy as np
import pytest
from PIL import Image

from vidssl import render
from vidssl.render import BORDER, DRAWN, EMPTY, GAP, LINE, PAST, TRUTH, Scene, film, still, write_futures, write_scene
from vidssl.types import UserError

PX, TY, N = 3, 4, 5


def grey(value, size=16, channels=1):
    return np.full((channels, size, size), value, np.uint8)


def scene(truth=TY, n=N, ty=TY, size=16, channels=1, name="clip-000010"):
    """A past of values 0, 1, 2, a truth of 100, 101, ..., futures of 10 * n + t (modulo 250)."""
    x = np.stack([grey(t, size, channels) for t in range(PX)])
    y = np.stack([grey(100 + t, size, channels) for t in range(truth)]) if truth else None
    futures = np.stack([np.stack([grey((10 * i + t) % 250, size, channels) for t in range(ty)]) for i in range(n)])
    return Scene(name, x, futures, y)


def cells(picture):
    """(row, column, border colour, value) of each tile in an array ``[H, W, 3]``, in reading order."""
    found, seen = [], np.zeros(picture.shape[:2], bool)
    for colour in (PAST, TRUTH, DRAWN):
        mask = (picture == colour).all(-1)
        for r, c in np.argwhere(mask):
            whole = mask[r : r + BORDER, c : c + 60].all() and mask[r : r + 60, c : c + BORDER].all()
            if whole and not seen[r, c]:
                seen[r : r + BORDER + 100, c : c + BORDER + 100] = True
                found.append((r, c, colour, int(picture[r + BORDER + 5, c + BORDER + 5, 0])))
    return sorted(found)


def test_a_still_has_past_truth_and_futures_in_their_places():
    found = cells(still(scene()))
    rows = sorted({r for r, *_ in found})
    assert len(rows) == 1 + N
    first = [(colour, value) for r, _, colour, value in found if r == rows[0]]
    assert first == [(PAST, t) for t in range(PX)] + [(TRUTH, 100 + t) for t in range(TY)]
    for i, row in enumerate(rows[1:]):
        assert [(colour, value) for r, _, colour, value in found if r == row] == [(DRAWN, 10 * i + t) for t in range(TY)]


def test_a_still_without_truth_and_with_half_a_truth():
    found = cells(still(scene(truth=0)))
    assert len(found) == PX + N * TY and TRUTH not in {colour for _, _, colour, _ in found}
    half = still(scene(truth=2))
    assert sum(colour == TRUTH for _, _, colour, _ in cells(half)) == 2
    assert (half[2 * LINE :] == EMPTY).all(-1).sum() == (TY - 2) * (128 + 2 * BORDER) ** 2


def test_small_frames_grow_by_whole_factors_without_smoothing():
    made = scene(size=32)
    made.x[0, 0, ::2] = 200
    picture = still(made)
    top, left = 2 * LINE + GAP + BORDER, GAP + BORDER
    tile = picture[top : top + 128, left : left + 128, 0]
    assert np.array_equal(tile, np.kron(made.x[0, 0], np.ones((4, 4), np.uint8)))


def test_many_futures_and_long_horizons_stay_readable():
    picture = still(scene(n=40, ty=50, truth=50))
    assert max(picture.shape) < 3200
    found = cells(picture)
    assert sum(colour == TRUTH for _, _, colour, _ in found) == render.STILL_COLUMNS
    values = [value for _, _, colour, value in found if colour == TRUTH]
    assert values[0] == 100 and values[-1] == 149, "the first and the last moment are among those shown"


def test_a_film_plays_the_past_then_the_futures():
    frames = film(scene(truth=2))
    assert frames.dtype == np.uint8 and len(frames) == PX + TY + render.HOLD
    for t, frame in enumerate(frames):
        found = [(colour, value) for _, _, colour, value in cells(frame.transpose(1, 2, 0))]
        if t < PX:
            assert found == [(PAST, t)] * (1 + N)
        else:
            step = min(t - PX, TY - 1)
            truth = [(TRUTH, 100 + step)] if step < 2 else []
            assert found == truth + [(DRAWN, 10 * i + step) for i in range(N)]


@pytest.mark.parametrize("channels", [1, 3])
def test_files(tmp_path, channels):
    made = scene(channels=channels, size=20)
    paths = write_scene(tmp_path / "new", made)
    assert [p.name for p in paths] == [f"clip-000010.{s}" for s in ("png", "gif", "mp4")]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in paths)
    assert np.array_equal(np.asarray(Image.open(paths[0])), still(made))
    frames = film(made)
    with Image.open(paths[1]) as gif:  # equal frames in a row may be one that lasts longer
        lasts = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
    assert abs(sum(lasts) - 1000 / 6 * len(frames)) < 10 * len(frames)
    with av.open(str(paths[2])) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(decoded) == len(frames)
    h, w = frames.shape[2:]
    assert np.abs(decoded[4][:h, :w].astype(int) - frames[4].transpose(1, 2, 0)).mean() < 6


def test_names_with_dots_keep_them(tmp_path):
    assert write_scene(tmp_path, scene(name="v1.2-final-000000"))[0].name == "v1.2-final-000000.png"


def test_the_numbers(tmp_path):
    scenes = [scene(name="a"), scene(name="b", truth=2), scene(name="c", truth=0)]
    path = write_futures(tmp_path / "futures.npz", scenes, 7)
    with np.load(path, allow_pickle=False) as file:
        found = dict(file)
    assert found["seed"] == 7 and found["names"].tolist() == ["a", "b", "c"]
    assert found["x"].shape == (3, PX, 1, 16, 16) and found["futures"].shape == (3, N, TY, 1, 16, 16)
    assert np.array_equal(found["futures"][1], scenes[1].futures) and np.array_equal(found["x"][2], scenes[2].x)
    assert found["y_frames"].tolist() == [TY, 2, 0]
    assert np.array_equal(found["y"][1, :2], scenes[1].y) and not found["y"][1, 2:].any() and not found["y"][2].any()
    write_futures(tmp_path / "again.npz", scenes, 7)
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()
    write_futures(path, [scene(truth=0)], 7)
    with np.load(path) as file:
        assert set(file) == {"x", "futures", "seed", "names"}


@pytest.mark.parametrize("library", ["numpy.savez_compressed", "PIL.Image.Image.save"])
def test_no_room_leaves_what_was_there(tmp_path, monkeypatch, library):
    write_scene(tmp_path, scene())
    write_futures(tmp_path / "futures.npz", [scene()], 1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(library, full)
    with pytest.raises(OSError, match=r"No space.*tmp"):
        if "numpy" in library:
            write_futures(tmp_path / "futures.npz", [scene(truth=0)], 2)
        else:
            write_scene(tmp_path, scene(truth=0))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("bend", [lambda s: (s.x.astype(np.float32), s.futures), lambda s: (s.x[:, :, :8], s.futures),
                                  lambda s: (s.x, s.futures[0]), lambda s: (s.x.repeat(2, 1), s.futures.repeat(2, 2))])  # fmt: skip
def test_what_is_no_scene(bend):
    with pytest.raises(UserError, match="a scene is uint8 clips of one size"):
        Scene("bent", *bend(scene()))
