"""The whole evaluation, on models whose every score is known: the perfect one and the best deterministic one."""

from __future__ import annotations

import json
import math

import pytest
import torch
from models import model
from oracles import ForkOracle

from vidssl.data.module import ClipData, ClipDataset, WorldData
from vidssl.data.worlds.fork import Fork
from vidssl.evaluation import evaluate as module
from vidssl.evaluation.evaluate import compare, evaluate
from vidssl.types import Batch, UserError, to_unit

WORLD = Fork()
SMALL = {"futures": 4, "draws": 64, "pasts": 3, "limit": 12}


def data(**changes: int) -> WorldData:
    return WorldData(WORLD, **{"train_clips": 8, "val_clips": 8, "test_clips": 64, "batch_size": 8, **changes})


@pytest.fixture(scope="module")
def perfect() -> dict:
    return evaluate(ForkOracle(WORLD), data(), draws=1024, pasts=8)


@pytest.fixture(scope="module")
def blurred() -> dict:
    return evaluate(ForkOracle(WORLD, groups=1), data(), draws=64, pasts=4)


def test_the_perfect_model_reaches_every_ideal(perfect: dict) -> None:
    ideal = perfect["ideal"]
    assert perfect["total_variation"] == pytest.approx(perfect["total_variation_noise"], rel=0.2)
    assert perfect["total_variation_noise"] < 0.021 and perfect["total_variation_share"] == 1
    assert perfect["mode_recall"] == perfect["mode_precision"] == 1
    assert perfect["frequencies"]["true"] == [0.5, 0.25, 0.125, 0.125] and perfect["frequencies"]["off_mode"] == 0
    assert perfect["frequencies"]["predicted"] == pytest.approx(perfect["frequencies"]["true"], abs=4 * 0.5 / math.sqrt(1024 * 8))
    assert perfect["information_bits"] == pytest.approx(1.75) and perfect["information_exact"] is True
    assert ideal["information_bits"] == ideal["entropy_bits"] == ideal["rate_bits"] == pytest.approx(1.75)
    assert perfect["rate_bits"] == pytest.approx(1.75, abs=0.25) and perfect["capacity_bits"] == 2
    assert set(perfect["auroc"]) == {"shuffled", "blurred", "ghost", "frozen", "reversed", "shifted", *WORLD.wrong_kinds}
    assert all(v == 1 for v in perfect["auroc"].values()), perfect["auroc"]
    assert perfect["energy_calibration"] == pytest.approx(1, abs=1e-6)
    for key in ("energy_score", "diversity", "spread_skill", "sharpness"):
        assert perfect[key] == pytest.approx(ideal[key], rel=0.12), key
    assert perfect["spread_skill"] == pytest.approx(1, abs=0.1) and perfect["sharpness"] == pytest.approx(1, abs=0.02)


def test_best_of_n_of_the_perfect_model_by_enumeration(perfect: dict) -> None:
    """E best-of-N = sum_j d_j P(the nearest of N draws is j), exactly, for the mode that happened in each past."""
    clips = data().clips("test").batch(0, list(range(64)))
    for n in (1, 4, 16):
        mean = variance = 0.0
        for state, y in zip(clips.state, clips.y, strict=True):
            modes = to_unit(WORLD.render(state, torch.arange(4)[:, None])).flatten(1)
            p, d = WORLD.probabilities(state)[0], torch.cdist(to_unit(y).flatten()[None], modes)[0].square().double()
            near, order = d.sort()
            beyond = (1 - p[order].cumsum(0)).clamp_min(0) ** n  # all draws are farther than this mode
            hit = torch.cat((torch.ones(1), beyond[:-1])) - beyond
            mean += float(near @ hit) / 64
            variance += float(near.square() @ hit - (near @ hit) ** 2) / 64**2
        assert perfect["ideal"]["expected"][f"best_of_{n}"] == pytest.approx(mean, rel=0.15)
        for found in (perfect, perfect["ideal"]):
            # the first n of 16 draws: one estimate, whose own deviation is known
            assert abs(found["best_of_N"][str(n)]["squared_error"] - mean) < 3.5 * math.sqrt(variance), n
    assert perfect["best_of_N"]["16"]["psnr"] > perfect["best_of_N"]["4"]["psnr"] > perfect["best_of_N"]["1"]["psnr"]


def test_the_best_deterministic_model_is_found_out(blurred: dict, perfect: dict) -> None:
    assert blurred["auroc"]["blurred"] == 0 and blurred["total_variation"] == 1 and blurred["mode_precision"] == 0
    assert blurred["frequencies"] == {"true": [0.5, 0.25, 0.125, 0.125], "predicted": [0.0] * 4, "off_mode": 1.0}
    assert blurred["information_bits"] == blurred["rate_bits"] == blurred["diversity"] == 0
    assert blurred["squared_error"] == pytest.approx(blurred["mean_future"]["squared_error"], rel=0.01)
    assert blurred["squared_error"] < perfect["squared_error"], "the mean has less error than honest draws"
    assert blurred["energy_score"] > perfect["energy_score"] + 0.5, "and a worse energy score"
    assert blurred["squared_error"] == pytest.approx(blurred["ideal"]["expected"]["squared_error_of_mean"], rel=0.1)
    assert blurred["sharpness"] < 0.5
    assert blurred["auroc"]["shuffled"] > 0.9, "shuffled futures are too easy"


def test_half_a_code_has_half_the_truth() -> None:
    found = evaluate(ForkOracle(WORLD, groups=2), data(), draws=64, pasts=8, limit=16)
    pair = 0.75 * math.log2(4 / 3) + 0.25 * 2
    assert found["information_bits"] == pytest.approx(pair) and found["total_variation"] > 0.3


def test_what_comes_out_is_json_and_complete(perfect: dict) -> None:
    text = json.loads(json.dumps(perfect, allow_nan=False))
    wanted = {"protocol", "psnr", "ssim", "best_of_N", "mean_of_N", "copy_last", "diversity", "energy_score", "sharpness", "auroc", "ideal"}
    assert wanted <= text.keys() and set(text["best_of_N"]) == set(text["mean_of_N"]) == {"1", "4", "16"}
    assert text["protocol"]["clips"] == 64 and len(text["protocol"]["weights"]) == 64
    assert len(text["horizon"]["mean_of_N"]["psnr"]) == 6
    assert evaluate(model("gaussian_fixed"), data(), **SMALL)["capacity_bits"] == "inf"


def test_the_same_seed_gives_the_same_numbers_however_the_data_is_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first = evaluate(model("categorical"), data(), **SMALL)
    torch.manual_seed(1)
    assert first == evaluate(model("categorical"), data(batch_size=5), **SMALL)
    other = evaluate(model("categorical"), data(), seed=1, **SMALL)
    assert other["best_of_N"] != first["best_of_N"]
    with pytest.raises(UserError, match="seed: 0 and 1"):
        compare(first, other)


def test_models_meet_the_same_wrong_futures_and_draws_of_the_truth() -> None:
    first, second = (evaluate(model(name), data(), **SMALL) for name in ("gaussian_learned", "none"))
    for key in first["ideal"]:
        assert first["ideal"][key] == second["ideal"].get(key, first["ideal"][key]), key
    assert first["total_variation_noise"] == second["total_variation_noise"]


class Still(ClipData):
    """Two plain clips without a world: one stands still."""

    past, future, size, channels, seed, batch_size, workers, world = 4, 6, 32, 1, 0, 2, 0, None

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def clips(self, split: str) -> ClipDataset:
        count = self.count

        class Clips(ClipDataset):
            """Noise; clip 0 stands still."""

            def __len__(self) -> int:
                return count

            def batch(self, epoch: int, indices: list[int]) -> Batch:
                g = torch.Generator().manual_seed(0)
                video = torch.randint(0, 256, (count, 10, 1, 32, 32), generator=g, dtype=torch.uint8)
                video[0] = video[0, :1]
                return Batch(video[indices, :4], video[indices, 4:], torch.tensor(indices))

        return Clips()

    def protocol(self) -> dict:
        return {"data": "still"}


def test_video_without_a_world() -> None:
    found = evaluate(model("vq"), Still(3), **SMALL)
    assert set(found["auroc"]) == {"shuffled", "blurred", "ghost", "frozen", "reversed", "shifted"}
    assert found["auroc_clips"]["frozen"] == 2 and found["auroc_clips"]["shuffled"] == 3
    assert not {"ideal", "total_variation", "frequencies", "information_bits", "mean_future"} & found.keys()
    alone = evaluate(model("vq"), Still(1), **SMALL)
    assert set(alone["auroc"]) == {"blurred"}, "one still clip has no other wrong future"


@pytest.mark.parametrize("name", ["past", "future", "size", "channels"])
def test_data_of_another_shape_is_refused(name: str) -> None:
    wrong = data()
    setattr(wrong, name, 99)
    with pytest.raises(UserError, match=f"{name}; the model has .* the data 99"):
        evaluate(model("none"), wrong)


@pytest.mark.parametrize("name", ["futures", "draws", "pasts", "limit"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="at least one|limit of 0"):
        evaluate(model("none"), data(), **{**SMALL, name: 0})


def test_data_without_test_clips_is_refused() -> None:
    with pytest.raises(UserError, match="test clips"):
        evaluate(model("none"), data(test_clips=0))


def test_progress_is_told() -> None:
    told = []

    def progress(items, total, what):
        made = list(items)
        told.append((what, total, len(made)))
        return made

    evaluate(model("none"), data(), **{**SMALL, "limit": module.ROWS + 1}, progress=progress)
    assert [(total, n) for _, total, n in told] == [(2, 2), (2, 2), (3, 3)] and all(what for what, _, _ in told)


def test_large_sets_are_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOATS", 10 * 6 * 32 * 32)
    calls = []
    energy = ForkOracle(WORLD)
    sample = energy.sample
    monkeypatch.setattr(energy, "sample", lambda x, n, g: calls.append((len(x), n)) or sample(x, n, g))
    found = evaluate(energy, data(), **SMALL)
    assert max(b * n for b, n in calls) <= 10 and sum(n for b, n in calls[-7:]) == 64
    assert found["total_variation"] < 0.3 and found["mode_precision"] == 1


def test_a_model_of_nans_is_refused() -> None:
    energy = model("none")
    with torch.no_grad():
        next(energy.decoder.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match="not finite"):
        evaluate(energy, data(), **SMALL)
