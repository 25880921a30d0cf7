"""Digit detection: maps against a flood fill and against known centres, average precision against scikit-learn, and the whole protocol on known predictors."""

from __future__ import annotations

import json
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F

from vidssl.cli import main as command
from vidssl.data.module import WorldData
from vidssl.data.moving_mnist import MadeHalves, MovingMNIST
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.fork import Fork
from vidssl.energy.embedding import EmbeddingEnergy
from vidssl.energy.predictive import PixelEnergy
from vidssl.evaluation.detect import detect, drawn, known
from vidssl.evaluation.detection import average_precision, centres, maps_of, maps_of_frames, train
from vidssl.export.card import Opened
from vidssl.export.write import export
from vidssl.latents.gaussian import GaussianFixed
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.predictors import MixPredictor
from vidssl.types import UserError, to_unit

SMALL = {"futures": 2, "steps": 3, "clips": 8, "limit": 8}


def flooded(frame: np.ndarray) -> set[tuple[float, float]]:
    """Centres of outer contours, pixel by pixel: the dark that reaches the border is outside, all else hangs together by its corners."""
    light = frame > (float(frame.min()) + float(frame.max())) / 2
    h, w = light.shape

    def spread(seeds: list[tuple[int, int]], inside: set[tuple[int, int]], near: list[tuple[int, int]]) -> set[tuple[int, int]]:
        found, todo = set(), [s for s in seeds if s in inside]
        while todo:
            r, c = todo.pop()
            if (r, c) not in found:
                found.add((r, c))
                todo += [(r + i, c + j) for i, j in near if (r + i, c + j) in inside]
        return found

    ring = {(r, c) for r in range(-1, h + 1) for c in range(-1, w + 1)}
    dark = {(r, c) for r, c in ring if not (0 <= r < h and 0 <= c < w and light[r, c])}
    cross = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    left = ring - spread([(-1, -1)], dark, cross)
    made = set()
    while left:
        blob = spread([next(iter(left))], left, [*cross, (1, 1), (1, -1), (-1, 1), (-1, -1)])
        left -= blob
        rows, columns = zip(*blob)
        made.add(((min(rows) + max(rows) + 1) / 2, (min(columns) + max(columns) + 1) / 2))
    return made


def test_blobs_are_those_of_a_flood_fill() -> None:
    rng = np.random.default_rng(0)
    frames = rng.random((30, 16, 16)) ** np.linspace(0.3, 3, 30)[:, None, None]  # from nearly full to nearly empty
    frame, centre = centres(frames)
    for i in range(30):
        assert {tuple(c) for c in centre[frame == i]} == flooded(frames[i]), i


def test_blobs_by_hand() -> None:
    frames = np.zeros((4, 64, 64), np.uint8)
    frames[0, 10:20, 30:34] = 200  # rows 10 to 20, columns 30 to 34: the centre is (15, 32)
    frames[1, 5:25, 5:25], frames[1, 7:23, 7:23], frames[1, 14:16, 14:16] = 255, 0, 255  # a ring with a dot in it is one
    frames[2, 40:44, 40:44], frames[2, 44:48, 44:48] = 255, 120  # the darker one is under the threshold
    frame, centre = centres(frames)
    assert frame.tolist() == [0, 1, 2] and centre.tolist() == [[15, 32], [15, 15], [42, 42]]
    maps = maps_of_frames(torch.from_numpy(frames)[:, None])
    assert maps.nonzero().tolist() == [[0, 1, 4], [1, 1, 1], [2, 5, 5]], "an empty frame has none"
    assert torch.equal(maps_of_frames(torch.from_numpy(frames)[None, :, None].float() / 255)[0], maps)
    assert torch.equal(maps_of(np.array([0, 3]), np.array([[0.0, 63.9], [31.9, 32.0]]), 4, 64).nonzero(), torch.tensor([[0, 0, 7], [3, 3, 4]]))


def test_maps_from_pixels_are_near_the_known_centres() -> None:
    """Where two digits lie apart, each blob's centre is within a cell of the centre of its picture."""
    clips, alone, right = MovingMNIST().clips("train"), 0, 0
    assert isinstance(clips, MadeHalves)
    for number in range(12):
        _, places = clips.made(number)
        frame, centre = centres(clips.sequence(number))
        for t in range(20):
            if np.abs(places[0, t] - places[1, t]).max() < 28:
                continue
            alone += 1
            found = centre[frame == t]
            near = np.abs(found[:, None] - (places[:, t] + 14)).max(2) < 6
            right += len(found) == 2 and bool(near.any(0).all())
    assert alone > 20 and right > 0.75 * alone, "but for digits with a gap"


@pytest.mark.parametrize("levels", [3, 1000])
def test_average_precision_is_scikit_learns(levels: int) -> None:
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        target = torch.rand(6, 8, 8, generator=g) < 0.1
        scores = (torch.rand(6, 8, 8, generator=g) * levels).floor() / levels + 0.3 * target
        want = average_precision_score(target.flatten().numpy(), scores.flatten().numpy())
        assert average_precision(scores, target) == pytest.approx(want, abs=1e-9)
    assert average_precision(target.float(), target) == 1
    assert average_precision(torch.zeros(6, 8, 8), target) == pytest.approx(float(target.float().mean()))
    with pytest.raises(UserError, match="none of 384"):
        average_precision(scores, torch.zeros(6, 8, 8))


class Seer(PixelEnergy):
    """Paints futures that are given to it, by their pasts: the truth in draw number `right` and darkness in the others."""

    def teach(self, x: Tensor, y: Tensor, right: int) -> Seer:
        """Remember the clips' windows, one from each start."""
        clip = torch.cat((x, y), 1)
        self.right, self.known = right, {}
        for t in range(y.shape[1]):
            rest = torch.zeros_like(y)
            rest[:, : y.shape[1] - t] = clip[:, x.shape[1] + t :]
            for past, future in zip(clip[:, t : t + x.shape[1]], rest):
                self.known[past.numpy().tobytes()] = future
        return self

    def sample(self, x: Tensor, n: int, generator: torch.Generator | None = None, horizon: int | None = None) -> Tensor:
        """The truth once."""
        made = torch.zeros(n, *self.known[x[0].numpy().tobytes()].expand(len(x), -1, -1, -1, -1).shape)
        made[min(self.right, n - 1)] = torch.stack([self.known[past.numpy().tobytes()] for past in x])
        return made


def seer(right: int, data: MovingMNIST) -> Seer:
    plain = models.model("gaussian_fixed", past=2, future=8, size=64)
    made = Seer(**plain.__dict__["_arguments"])
    test = data.clips("test").batch(0, list(range(len(data.clips("test"))))).unit()
    return made.teach(test.x, test.y, right)


class Ink(nn.Module):
    """A head that needs no training: a cell with much ink in and around it is likelier to be a centre."""

    def forward(self, features: Tensor) -> Tensor:
        """``[..., T, 64, 8, 8] -> [..., T, 8, 8]``."""
        ink = features.mean(-3)
        return 8 * F.avg_pool2d(ink.flatten(0, -3)[:, None], 3, 1, 1)[:, 0].view_as(ink) - 4


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidssl.evaluation.detect.train", lambda *arguments, **options: Ink())


def test_the_protocol_on_a_predictor_that_knows(untrained: None) -> None:
    data = MovingMNIST(train_sequences=8, val_sequences=8)
    found = detect(seer(0, data), data, **SMALL | {"futures": 4, "limit": 16})
    assert len(found["first"]["ap"]) == 8 and len(found["sliding"]["ap"]) == 7
    assert found["first"]["ap"] == pytest.approx(found["true"]["ap"]) and found["best_of_N"]["1"] == found["first"]
    assert found["first"]["map"] == pytest.approx(sum(found["first"]["ap"]) / 8) and found["true"]["map"] > 0.2
    assert found["copy_last"]["ap"][0] > found["copy_last"]["ap"][-1]
    late = detect(seer(3, data), data, **SMALL | {"futures": 4, "limit": 16})
    assert late["best_of_N"]["1"]["map"] < 0.05 and late["best_of_N"]["4"] == found["first"]
    assert [list(late[group]) for group in ("best_of_N", "mean_of_N")] == 2 * [["1", "2", "4"]], "k goes in powers of two"
    assert late["best_of_N"]["1"]["map"] < late["mean_of_N"]["4"]["map"]


def test_sliding_pools_all_places(untrained: None) -> None:
    """s steps ahead of every start: of a predictor that knows they are the maps of all frames from s on, once each."""
    data = MovingMNIST(train_sequences=8, val_sequences=8)
    found = detect(seer(0, data), data, **SMALL | {"futures": 1, "limit": 16})
    test = data.clips("test").batch(0, list(range(16)))
    scores, target = Ink()(F.pixel_unshuffle(to_unit(test.y), 8)), maps_of_frames(test.y)
    want = [average_precision_score(target[:, s:].flatten().long().numpy(), scores[:, s:].flatten().numpy()) for s in range(7)]
    assert found["sliding"]["ap"] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("maps", [1, 2])
def test_the_head_learns_and_its_features_do_not(maps: int) -> None:
    """A map a frame, or one for both frames: where a channel is high, there is a digit."""
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(64, 2, 8, 8, generator=g) < 0.05).float()
    features = nn.Parameter((target if maps == 1 else target[:, :, None].flatten(1, 2)).reshape(64, maps, 2 // maps, 8, 8) + 0.1 * torch.randn(64, maps, 2 // maps, 8, 8, generator=g))
    head = train(lambda rows: features[rows], target, 80, 16, 1e-2)
    assert features.grad is None and head(features).shape == (64, 2, 8, 8)
    assert average_precision(head(features), target) > 0.9
    first, again, other = (train(lambda rows: features[rows], target, 2, 16, 1e-2, seed)(features) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_batches_are_averaged(untrained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MovingMNIST(train_sequences=8, val_sequences=8)
    monkeypatch.setattr("vidssl.evaluation.detect.BATCH", 8)
    found = detect(seer(0, data), data, **SMALL | {"limit": 16})
    clips = data.clips("test").batch(0, list(range(16)))
    maps, last = maps_of_frames(clips.y), maps_of_frames(clips.x[:, -1:])
    want = [np.mean([average_precision_score(maps[p, s].flatten(), last[p, 0].flatten()) for p in (slice(0, 8), slice(8, 16))]) for s in range(8)]
    assert found["copy_last"]["ap"] == pytest.approx(want, abs=1e-6)


def embedding() -> EmbeddingEnergy:
    torch.manual_seed(0)
    encoders = (ClipEncoder(frames, 1, 16, 1) for frames in (2, 10, 4))
    encoder, target, teacher = encoders
    return EmbeddingEnergy(64, 8, encoder, target, GaussianFixed(16, 3), MixPredictor(16, 3, 1), teacher, 1.0)


@pytest.mark.parametrize("make", [lambda: models.model("gaussian_learned", past=2, future=8, size=64), lambda: models.model("none", 2, 8, size=64), embedding])
def test_predictors_of_pixels_and_of_embeddings(make) -> None:
    energy = make()
    data = WorldData(Bounce(past=2, future=8, digit_size=28), 8, 8, 8, 8)
    found, again = detect(energy, data, **SMALL), detect(energy, data, **SMALL)
    assert found == again and set(found["best_of_N"]) == {"1", "2"} and all(0 < ap <= 1 for ap in found["sliding"]["ap"])
    x, y = models.clips(3, 2, 8, size=64)
    shape = (8, 64, 8, 8) if energy.paints else (1, 16, 16, 16)
    assert known(energy, x, y).shape == (3, *shape) and drawn(energy, x, 2).shape == (2, 3, *shape)


def test_what_is_refused() -> None:
    data = MovingMNIST(train_sequences=2, val_sequences=2)
    energy = models.model("none", 2, 8, size=64)
    with pytest.raises(UserError, match="agree on past; the model has 4, the data 2"):
        detect(models.model("none"), data)
    for name in ("futures", "steps", "clips"):
        with pytest.raises(UserError, match=f"at least one of {name}; got 0"):
            detect(energy, data, **{**SMALL, name: 0})
    with pytest.raises(UserError, match="size of 36"):
        detect(models.model("none", size=36), WorldData(Fork(size=36), 8, 8, 8, 8))


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(Opened(models.model("none", 2, 8, size=64), {}, {}, ""), tmp_path / "model", "model")
    few = ["--futures", "2", "--steps", "2", "--clips", "4", "--limit", "4"]
    assert command(["detect", str(tmp_path / "model"), *few, "--output", str(tmp_path / "out.json")]) == 0
    found, out = json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out
    assert found["protocol"]["clips"] == 4 and all(name in out for name in ("sliding", "copy_last", "best of 2", "mean of 1"))
    assert command(["detect", str(tmp_path / "model"), *few, "--file", "nowhere.npy"]) == 2
    assert "nowhere.npy" in capsys.readouterr().err
