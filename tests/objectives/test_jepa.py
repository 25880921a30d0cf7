"""What holds a learning embedding apart: the terms by hand, their axes, and that collapse costs."""

from __future__ import annotations

import math

import pytest
import torch
from jepas import embedded
from models import WIDTH, clips
from torch import Tensor

from vidssl.energy.jepa import FutureJEPA
from vidssl.objectives.jepa import JEPA, places
from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.target_rate import TargetRate
from vidssl.types import Batch, Moment, UserError

SCALE = WIDTH * 64.0


def model(kind: str = "variance") -> FutureJEPA:
    made = embedded(kind, "gaussian_learned", shaken=0.0, **({"momentum": 0.5} if kind == "momentum" else {}))
    assert isinstance(made, FutureJEPA)
    return made.train()


def batch(n: int = 6) -> Batch:
    x, y = clips(n)
    return Batch(x, y, torch.arange(n))


def moment(step: int = 5) -> Moment:
    return Moment(step, 10, torch.Generator().manual_seed(2))


def by_hand(h: Tensor) -> tuple[float, float]:
    """V and C of one map ``[B, D, h, w]`` in plain loops over places and features."""
    b, d, height, width = h.shape
    v = c = 0.0
    for i in range(height):
        for j in range(width):
            rows = h[:, :, i, j].double()
            away = rows - rows.mean(0)
            cov = (away.T @ away / (b - 1)).tolist()
            v += sum(max(0.0, 1 - math.sqrt(cov[k][k] + 1e-4)) for k in range(d)) / d
            c += sum(cov[k][m] ** 2 for k in range(d) for m in range(d) if k != m) / d
    return v / (height * width), c / (height * width)


@pytest.mark.parametrize(("variance", "covariance"), [(0.0, 0.0), (1.0, 0.04), (3.0, 2.0)])
def test_the_loss_is_the_inner_one_and_both_terms_of_both_embeddings_place_by_place(variance: float, covariance: float) -> None:
    energy, given = model(), batch()
    inner = LimitedLatent(SCALE)
    out = JEPA(inner, variance, covariance).loss(energy, given, moment())
    (v1, c1), (v2, c2) = (by_hand(h.detach()) for h in (energy.encode(given.x), energy.seen(given.x, given.y)))
    expected = float(inner.loss(energy, given, moment()).loss.detach()) + variance * (v1 + v2) / 2 + covariance * (c1 + c2)
    assert float(out.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(out.logs["variance"]) == pytest.approx((v1 + v2) / 2, rel=1e-5) and float(out.logs["covariance"]) == pytest.approx(c1 + c2, rel=1e-4)
    assert {"distortion", "rate_bits"} <= out.logs.keys() and not any(value.requires_grad for value in out.logs.values())


def test_a_picture_that_is_the_same_for_all_clips_is_no_variance() -> None:
    """Over batch and places together it would be: the statistics are of the batch, at each place."""
    layout = torch.randn(1, 5, 4, 4)
    same = places(layout.expand(8, -1, -1, -1))
    assert same.shape == (16, 8, 5) and torch.equal(same.var(1), torch.zeros(16, 5)) and layout.var() > 0.5


def test_collapse_costs_and_without_the_weights_it_is_the_best() -> None:
    """The whole variance weight is due for embeddings that are one point, and E + price alone would take it."""
    energy, given = model(), batch()
    with torch.no_grad():
        for part in (energy.encoder, energy.embedder):
            part.norm.weight.zero_(), part.norm.bias.zero_()
        energy.latent.to_posterior.load_state_dict({k: torch.zeros_like(v) for k, v in energy.latent.to_posterior.state_dict().items()})
        energy.latent.to_prior.load_state_dict({k: torch.zeros_like(v) for k, v in energy.latent.to_prior.state_dict().items()})
        for name, p in energy.predictor.named_parameters():
            p.zero_()
    with torch.no_grad():
        free, held = (JEPA(LimitedLatent(SCALE), weight, weight).loss(energy, given, moment()) for weight in (0.0, 1.0))
    assert float(free.loss) == 0.0 and float(held.loss) == pytest.approx(1 - 0.01, abs=1e-4), "1 - sqrt(1e-4) for each feature"
    assert float(held.logs["spread"]) == 0.0


def test_gradients_of_the_terms_reach_f_and_an_e_that_learns() -> None:
    for kind in ("variance", "momentum"):
        energy, given = model(kind), batch()
        out = JEPA(LimitedLatent(1e12), 1.0, 1.0).loss(energy, given, moment())  # E and price count for nothing
        out.loss.backward()
        reached = {name: max(float(p.grad.abs().max()) if p.grad is not None else 0.0 for p in getattr(energy, name).parameters()) for name in ("encoder", "embedder", "predictor")}
        assert reached["encoder"] > 1e-4 and reached["predictor"] < 1e-6
        assert (reached["embedder"] > 1e-4) == (kind == "variance")


def test_the_slow_copy_moves_in_training_and_not_in_validation() -> None:
    energy = model("momentum")
    with torch.no_grad():
        energy.encoder.stem.weight.add_(1.0)
    slow, fast = energy.embedder.stem.weight.clone(), energy.encoder.stem.weight
    objective = JEPA(LimitedLatent(SCALE))
    objective.loss(energy.eval(), batch(), moment())
    assert torch.equal(energy.embedder.stem.weight, slow)
    objective.loss(energy.train(), batch(), moment())
    torch.testing.assert_close(energy.embedder.stem.weight, 0.5 * slow + 0.5 * fast)


def test_it_goes_with_a_controller_of_the_rate() -> None:
    energy = model()
    out = JEPA(TargetRate(SCALE, target_bits=2.0)).loss(energy, batch(), moment())
    assert "price" in out.logs and float(energy.price) != 2.0


def test_what_it_cannot_train_is_refused() -> None:
    objective = JEPA(LimitedLatent(SCALE))
    with pytest.raises(UserError, match="got EmbeddingEnergy"):
        objective.loss(embedded("frozen"), batch(), moment())
    with pytest.raises(UserError, match="at least 2 samples; got 1"):
        objective.loss(model(), batch(1), moment())
    with pytest.raises(UserError, match="at least 0; got -1 and 0.04"):
        JEPA(LimitedLatent(SCALE), variance=-1.0)


def test_descent_on_the_energy_alone_draws_embeddings_together_and_the_variance_drives_them_apart() -> None:
    given = batch(16)
    spread = {}
    for weight in (0.0, 10.0):
        energy, objective = model(), JEPA(LimitedLatent(SCALE), weight, 0.0)
        for step in range(5):
            out = objective.loss(energy, given, moment())
            spread.setdefault("before", float(out.logs["spread"]))
            energy.zero_grad()
            out.loss.backward()
            with torch.no_grad():
                for p in (p for p in energy.parameters() if p.grad is not None):
                    p.sub_(0.02 * p.grad)
        spread[weight] = float(out.logs["spread"])
    assert spread[0.0] < spread["before"] - 1e-4 and spread[10.0] > spread["before"] + 1e-2, spread
