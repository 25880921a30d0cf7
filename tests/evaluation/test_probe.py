"""Probes against closed forms, brute force and scikit-learn; what each can and cannot tell; and the whole of them on a world."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from torch import Tensor, nn

import vidssl.evaluation.attentive as attentive
from vidssl.data.module import WorldData
from vidssl.data.worlds.bounce import Bounce
from vidssl.data.worlds.fork import Fork
from vidssl.evaluation.attentive import AttentiveProbes, attentive_accuracy
from vidssl.evaluation.features import ROWS, Rows, accuracy, read_clips, standardised, tokens_of
from vidssl.evaluation.linear import PENALTIES, fit_logistic, fit_ridge, linear_accuracy, logits, r_squared, ridge_r_squared
from vidssl.evaluation.probe import Settings, probe
from vidssl.evaluation.supervised import supervised
from vidssl.nets.encoders import ClipEncoder
from vidssl.types import UserError

G = torch.Generator().manual_seed


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=G(seed), dtype=torch.float64)


def three(x: Tensor, y: Tensor) -> tuple[Rows, Rows, Rows]:
    """Half of the samples to fit, a quarter to choose, a quarter to score."""
    n = len(x) // 4
    return Rows(x[: 2 * n], y[: 2 * n]), Rows(x[2 * n : 3 * n], y[2 * n : 3 * n]), Rows(x[3 * n :], y[3 * n :])


def test_features_are_standardised_by_the_training_clips_alone() -> None:
    train, other = 3 * normal(50, 4, 5) + torch.arange(5.0), normal(7, 4, 5)
    train[..., 2] = other[..., 2] = 0.1
    a, b = standardised(train, other)
    flat = train.flatten(0, 1)
    alive = [0, 1, 3, 4]
    assert torch.allclose(a.flatten(0, 1)[:, alive].std(0, correction=0), torch.ones(4).double())
    assert torch.allclose(b[..., alive], ((other - flat.mean(0)) / flat.std(0, correction=0))[..., alive])
    assert (a[..., 2] == 0).all() and (b[..., 2] == 0).all()  # a channel that is constant but for rounding


@pytest.mark.parametrize("penalty", [1.0, 0.01, 1e-4])
def test_the_linear_map_is_scikit_learns(penalty: float) -> None:
    x = normal(300, 6) @ torch.diag(torch.tensor([1, 1, 1, 1, 0.1, 0.01]).double())
    y = (x @ normal(6, 4, seed=1) + 0.7 * normal(300, 4, seed=2)).argmax(1)
    judge = LogisticRegression(C=1 / (penalty * len(x)), max_iter=10_000, tol=1e-10).fit(x.numpy(), y.numpy())
    for start in (None, normal(7, 4, seed=3)):
        weights = fit_logistic(x, y, 4, penalty, start)
        assert np.allclose(logits(x, weights).softmax(1).numpy(), judge.predict_proba(x.numpy()), atol=2e-4)


def test_at_the_solution_the_gradient_is_none() -> None:
    x, y = normal(200, 5), torch.randint(3, (200,), generator=G(1))
    weights = fit_logistic(x, y, 3, 0.01).requires_grad_(True)
    loss = nn.functional.cross_entropy(logits(x, weights), y) + 0.005 * weights[:-1].square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    assert gradient.abs().max() < 1e-6


def test_the_penalty_is_chosen_on_validation_clips() -> None:
    """Few samples of many features: without a penalty noise is learned; the chosen one is that of the best validation accuracy."""
    x = normal(480, 120)
    y = (x[:, 0] + 0.3 * normal(480, seed=1) > 0).long()
    train, val, test = three(x, y)
    a, b, c = standardised(train.x, val.x, test.x)
    found = [fit_logistic(a, train.y, 2, penalty) for penalty in PENALTIES]
    on_val = [accuracy(logits(b, w), val.y) for w in found]
    on_test = [accuracy(logits(c, w), test.y) for w in found]
    assert max(on_val) > on_val[-1] + 0.05
    answer = linear_accuracy(train, val, test, 2)
    assert answer in {on_test[i] for i in range(len(found)) if on_val[i] == max(on_val)} and answer > on_test[-1]


def test_ridge_is_the_closed_form_and_scikit_learns() -> None:
    x, y = normal(80, 7), normal(80, seed=1)
    x, y = x - x.mean(0), y - y.mean()
    for penalty, found in zip(PENALTIES, fit_ridge(x, y, PENALTIES)):
        assert torch.allclose(found, torch.linalg.solve(x.T @ x + 80 * penalty * torch.eye(7), x.T @ y), atol=1e-9)
        assert np.allclose(found.numpy(), Ridge(alpha=80 * penalty, fit_intercept=False).fit(x.numpy(), y.numpy()).coef_)


def test_r_squared_is_scikit_learns_and_1_for_a_linear_truth() -> None:
    y, answer = normal(50), normal(50) + 0.3 * normal(50, seed=1)
    assert float(r_squared(answer, y)) == pytest.approx(r2_score(y.numpy(), answer.numpy()))
    assert float(r_squared(answer, torch.ones(50))) == 0
    x = normal(400, 6)
    line = x @ normal(6, seed=2) + 5
    assert ridge_r_squared(*three(x, line)) > 0.9999
    noisy = line + line.std() * normal(400, seed=3)
    assert 0.3 < ridge_r_squared(*three(x, noisy)) < 0.65  # half of the variance is noise
    assert abs(ridge_r_squared(*three(x, normal(400, seed=4)))) < 0.1


def test_one_query_of_torchs_attention_is_an_attentive_probe() -> None:
    """Projections of keys and values multiply into the query and the classifier: the two give the same logits."""
    width, heads, classes = 12, 3, 5
    torch.manual_seed(0)
    layer, last = nn.MultiheadAttention(width, heads, bias=False, batch_first=True).double(), nn.Linear(width, classes).double()
    query, tokens = normal(1, 1, width), normal(9, 7, width, seed=1)
    want = last(layer(query.expand(9, -1, -1), tokens, tokens)[0][:, 0])
    q, k, v = (part.unflatten(0, (heads, -1)) for part in layer.in_proj_weight.chunk(3))  # [heads, width / heads, width]
    asked = torch.einsum("hew,w->he", q, query[0, 0])
    probes = AttentiveProbes(1, width, classes, heads, G(0)).double()
    out = layer.out_proj.weight.unflatten(1, (heads, -1))  # [width, heads, width / heads]
    with torch.no_grad():
        probes.queries[0].copy_(torch.einsum("hew,he->wh", k, asked) / (width // heads) ** 0.5)
        probes.classifiers[0][:-1] = torch.einsum("cw,whe,hev->hvc", last.weight, out, v).flatten(0, 1)
        probes.classifiers[0][-1] = last.bias
    assert torch.allclose(probes(tokens)[0], want, atol=1e-10)


def test_attentive_probes_are_strangers_to_one_another() -> None:
    probes = AttentiveProbes(3, 6, 4, 2, G(0))
    with torch.no_grad():
        for i, (query, classifier) in enumerate(zip(probes.queries, probes.classifiers)):
            query.mul_(i), classifier.copy_(torch.randn(classifier.shape, generator=G(i)))
    tokens = torch.randn(5, 7, 6, generator=G(9))
    for i, (query, classifier) in enumerate(zip(probes.queries, probes.classifiers)):
        seen = torch.cat([torch.stack([(t @ a).softmax(0) @ t for t in tokens]) for a in query.T], 1)
        assert torch.allclose(probes(tokens)[i], seen @ classifier[:-1] + classifier[-1], atol=1e-5)
    assert torch.allclose(probes(tokens)[0], tokens.mean(1).repeat(1, 2) @ probes.classifiers[0][:-1] + probes.classifiers[0][-1], atol=1e-5)
    probes(tokens)[1].sum().backward()
    assert [q.grad.abs().sum() > 0 for q in probes.queries] == [False, True, False]


@pytest.fixture(scope="module")
def patches() -> tuple[Tensor, Tensor]:
    """Each token says where it lies and whether it is lit; one of nine is. Where? All means over tokens are alike."""
    places = torch.randn(9, 6, generator=G(0))
    where = torch.randint(9, (1200,), generator=G(1))
    lit = nn.functional.one_hot(where, 9).float()[..., None] * 3
    tokens = torch.cat((places.expand(1200, -1, -1), lit), 2)
    return tokens + 0.05 * torch.randn(tokens.shape, generator=G(2)), where


def test_an_attentive_probe_tells_where_a_patch_is_and_a_linear_one_of_the_mean_cannot(patches: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, where = patches
    monkeypatch.setattr(attentive, "STEPS", 200)
    assert attentive_accuracy(*three(tokens, where), 9) > 0.95
    assert linear_accuracy(*three(tokens.mean(1), where), 9) < 0.25


def test_an_attentive_probe_is_a_function_of_its_seed(patches: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attentive, "STEPS", 12)
    parts = three(*patches)
    before = torch.get_rng_state()
    first, again, other = (attentive_accuracy(*parts, 9, seed) for seed in (0, 0, 1))
    assert first == again != other and torch.equal(torch.get_rng_state(), before)


def data(**more: int) -> WorldData:
    """A small Fork: 20 pixels, 3 future frames."""
    return WorldData(Fork(size=20, future=3, speed=2), **{"train_clips": 256, "val_clips": 64, "test_clips": 96, "batch_size": 8, **more})


def encoder(frames: int = 4) -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder(frames, 1, 8, 1)


QUICK = Settings(seeds=2, clips=200, steps=90, k=5)


def test_features_are_of_the_last_frames_of_the_past_in_any_portion() -> None:
    clips, small = data().clips("val"), encoder(2)
    read = read_clips(clips, list(range(ROWS + 6)[:60]) + [3], 2)
    assert read.windows.shape == (61, 2, 1, 20, 20)
    x = torch.stack([clips.batch(0, [i]).x[0, -2:] for i in (0, 59, 3)]).float() / 255
    with torch.no_grad():
        want = small(x).flatten(2).transpose(1, 2)
    found = tokens_of(small.train(), read.windows)
    assert torch.allclose(found[[0, 59, 60]], want, atol=1e-5) and not small.training


@pytest.fixture(scope="module")
def found() -> dict:
    """A probe of a random encoder, all scores."""
    attentive.STEPS, steps = 60, attentive.STEPS
    try:
        return probe(encoder(), data(), ["motion"], QUICK)
    finally:
        attentive.STEPS = steps


def test_a_probe_tells_all_that_there_is(found: dict) -> None:
    assert found["labels"].keys() == {"motion"} and found["regression"]["model"].keys() == {"row", "column", "row velocity", "column velocity"}
    motion = found["labels"]["motion"]
    assert motion["classes"] == 8 and 1 / 6 <= motion["commonest"] < 0.35 and motion["test_clips"] == 96
    for who in ("model", "random", "supervised"):
        assert motion[who].keys() == {"knn", "linear", "attentive"} and found["features"][who].keys() == {"spread", "rank", "mean_cosine"}
        for score in motion[who].values():
            assert score["mean"] == pytest.approx(np.mean(score["values"])) and score["spread"] == pytest.approx(np.std(score["values"], ddof=1))
    assert found["protocol"]["clips"] == {"train": 200, "val": 64, "test": 96} and found["protocol"]["k"] == 5
    json.dumps(found, allow_nan=False)


def test_a_supervised_encoder_beats_a_random_one(found: dict) -> None:
    motion = found["labels"]["motion"]
    assert motion["supervised"]["knn"]["mean"] > motion["random"]["knn"]["mean"] + 0.15
    assert motion["supervised"]["linear"]["mean"] > motion["random"]["linear"]["mean"] + 0.15
    speed = {who: found["regression"][who]["column velocity"]["mean"] for who in ("random", "supervised")}
    assert speed["supervised"] > speed["random"] + 0.15


def test_a_probe_is_reproducible_and_changes_nothing() -> None:
    settings = Settings(seeds=1, clips=64, limit=40, steps=2, k=3)
    model = encoder()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    attentive.STEPS, steps = 3, attentive.STEPS
    try:
        first, again = (probe(model, data(), settings=settings) for _ in range(2))
    finally:
        attentive.STEPS = steps
    assert first == again and list(first["labels"]) == ["side", "motion"], "all labels unless told"
    assert torch.equal(torch.get_rng_state(), state) and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_numbers_that_are_not_known_teach_nothing() -> None:
    windows = torch.randint(256, (32, 4, 1, 8, 8), generator=G(0)).byte()
    numbers = torch.randn(32, 2, generator=G(1))
    holes = numbers.clone()
    holes[:, 1] = torch.nan
    with_holes, alone = (supervised(encoder(), windows, target, 0, 3).state_dict() for target in (holes, numbers[:, :1].contiguous()))
    assert all(v.isfinite().all() for v in with_holes.values())
    assert any(not torch.equal(v, dict(encoder().state_dict())[k]) for k, v in alone.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["digit"]}, "side, motion, and not digit"),
        ({"settings": Settings(seeds=1, clips=12, k=20)}, "k 20 and 12 samples"),
        ({"encoder": ClipEncoder(4, 3, 8, 1)}, "channels; the model has 3, the data 1"),
        ({"encoder": ClipEncoder(5, 1, 8, 1)}, "5 frames, and the data's past has 4"),
        ({"encoder": ClipEncoder(4, 1, 8, 1, patch=8)}, "size 20 and patch 8"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        probe(**{"encoder": encoder(), "data": data(), **arguments})


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"k": 0}, {"steps": -1}, {"temperature": 0.0}])
def test_settings_that_are_none_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Settings(**wrong)


def test_clips_without_the_label_do_not_count() -> None:
    bounce = WorldData(Bounce(16, 3, 2, 1, 8), 60, 30, 40, 8)
    attentive.STEPS, steps = 2, attentive.STEPS
    try:
        found = probe(encoder(3), bounce, ["motion"], Settings(seeds=1, steps=1, k=3, encoders=("model",)))
    finally:
        attentive.STEPS = steps
    clips = bounce.clips("test")
    labels = clips.labels(clips.batch(0, list(range(40))))["motion"]
    assert 0 < found["labels"]["motion"]["test_clips"] == int((labels >= 0).sum()) < 40
    assert list(found["features"]) == ["model"]
