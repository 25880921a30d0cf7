"""A predictor against its critic: what each learns is the gradient of its own loss and of nothing else, by an independent computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models import clips, judged, model
from processes import Together
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from vidssl.energy.critic import CriticEnergy
from vidssl.latents.search.best_of import BestOf
from vidssl.nets.augment import DiffAugment
from vidssl.nets.critics import ClipCritic, Critic
from vidssl.objectives.adversarial import Adversarial
from vidssl.objectives.contests import Balance, Contest, Hinge, LeastSquares, Margin, NonSaturating, Relativistic
from vidssl.objectives.limited import LimitedLatent
from vidssl.types import Batch, Moment, UserError

CONTESTS: dict[str, Contest] = {
    "relativistic": Relativistic(), "nonsaturating": NonSaturating(), "hinge": Hinge(), "least_squares": LeastSquares(), "margin": Margin(2.0),
}


def batch(n: int = 3, seed: int = 1) -> Batch:
    return Batch(*clips(n, seed=seed), torch.arange(n))


def moment(step: int = 50) -> Moment:
    return Moment(step, 100, torch.Generator().manual_seed(5))


def inner() -> LimitedLatent:
    return LimitedLatent(scale=50.0, warmup=0)


def slopes(loss: Tensor, part: nn.Module) -> dict[str, Tensor]:
    names, weights = zip(*part.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    return {name: torch.zeros_like(w) if g is None else g for name, w, g in zip(names, weights, found, strict=True)}


def drawn(energy: CriticEnergy, clips_: Batch, after: LimitedLatent | None, n: int = 1) -> tuple[Tensor, Tensor]:
    """The futures that a step draws, by hand: the noise that is left when `after` has taken its own."""
    noise = moment().generator
    if after is not None:
        energy.predictor.explain(clips_.x, clips_.y, noise)
    h = energy.predictor.encode(clips_.x)
    z = energy.predictor.latent.prior(h, n, noise)
    return torch.stack([energy.predictor.decode(h, one, clips_.x) for one in z]), z


@pytest.mark.parametrize(("name", "alone", "inferred"), [*((name, alone, 0) for name in CONTESTS for alone in (False, True)), ("relativistic", False, 1), ("relativistic", False, 3)])
def test_each_side_learns_from_its_own_loss_and_from_no_other(name: str, alone: bool, inferred: int) -> None:
    energy, contest, some = judged(), CONTESTS[name], batch()
    own = None if alone else inner()
    objective = Adversarial(contest, own, weight=0.7, inferred=inferred / 3, r1=0.3, r2=0.5)
    out = objective.loss(energy, some, moment())
    found = slopes(out.loss, energy)

    futures = drawn(energy, some, own)[0][0]
    if inferred:  # the first of the three are those of the z that explains the true future
        h = energy.predictor.encode(some.x)
        z = energy.predictor.latent.infer(h, energy.predictor.target(some.x, some.y), moment().generator).z
        futures = torch.cat((energy.predictor.decode(h, z, some.x)[:inferred], futures[inferred:]))
    true, made = some.y.clone().requires_grad_(), futures.detach().requires_grad_()
    d, g = energy.critic(some.x, true), energy.critic(some.x, made)
    lengths = [torch.autograd.grad(s.sum(), v, create_graph=True)[0].square().flatten(1).sum(1).mean() for s, v in ((d, true), (g, made))]
    penalty = 0.15 * lengths[0] + 0.25 * lengths[1]
    want = slopes(contest.critic(d, g).mean() + penalty, energy.critic)
    torch.testing.assert_close({k: found[f"critic.{k}"] for k in want}, want, rtol=1e-4, atol=1e-5)
    assert out.logs["penalty"].item() == pytest.approx(penalty.item(), rel=1e-5)

    frozen = {k: v.detach() for k, v in energy.critic.named_parameters()}
    score = functional_call(energy.critic, frozen, (some.x, futures))
    wish = contest.generator(d.detach(), score).mean()
    factor = torch.as_tensor(0.7)
    loss = factor * wish
    if own is not None:
        explained = own.loss(energy.predictor, some, moment()).loss
        found_at = energy.predictor.explain(some.x, some.y, moment().generator)
        pushed = torch.autograd.grad(wish, futures, retain_graph=True)[0].norm()
        pulled = (2 * found_at.energy.sum().sqrt() / (3 * 50)).detach()  # |d/dy^ of sum |y - y^|^2 / (B scale)|
        factor = 0.7 * pulled / pushed
        loss = explained + factor * wish
    assert out.logs["lambda"].item() == pytest.approx(factor.item(), rel=1e-4)
    want = slopes(loss, energy.predictor)
    torch.testing.assert_close({k: found[f"predictor.{k}"] for k in want}, want, rtol=1e-3, atol=1e-5)
    assert out.loss.item() == pytest.approx((loss + contest.critic(d, g).mean() + penalty).item(), rel=1e-4)
    assert sum(float(v.abs().sum()) for k, v in found.items() if "decoder" in k) > 1e-3


def test_inferred_futures_want_an_inner_that_makes_them() -> None:
    for share in (-0.1, 1.1):
        with pytest.raises(UserError, match=f"a share of the made futures, in .0, 1.; got {share}"):
            Adversarial(Relativistic(), inner(), inferred=share)
    with pytest.raises(UserError, match="got inferred 0.5 and none made: set it to 0"):
        Adversarial(Relativistic(), inferred=0.5).loss(judged(), batch(), moment())
    with torch.no_grad():  # validation judges draws of the prior
        shares = [Adversarial(Relativistic(), inner(), inferred=share).loss(judged(), batch(), moment()).logs["critic_made"] for share in (0.0, 1.0)]
    assert torch.equal(*shares)


class Quadratic(Critic):
    """D(x, y) = a |y|^2 / 2 + sum x."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.future, self.channels, self.size = 4, 6, 1, 32
        self.a = nn.Parameter(torch.tensor(0.3))

    def judge(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The score."""
        return self.a * y.square().flatten(1).sum(1) / 2 + x.flatten(1).sum(1), [y]


def test_the_penalty_of_a_quadratic_critic() -> None:
    """|grad_y D|^2 = a^2 |y|^2, and its slope in a is 2 a |y|^2: the past adds nothing."""
    energy = CriticEnergy(model("none"), Quadratic())
    some = batch()
    out = Adversarial(Hinge(), r1=2.0, r2=0.0).loss(energy, some, moment())
    power = some.y.square().flatten(1).sum(1).mean()
    assert out.logs["penalty"].item() == pytest.approx(0.09 * power.item(), rel=1e-5)
    without = Adversarial(Hinge(), r1=0.0, r2=0.0).loss(energy, some, moment())
    assert without.logs["penalty"].item() == 0
    rise = slopes(out.loss, energy.critic)["a"] - slopes(without.loss, energy.critic)["a"]
    assert rise.item() == pytest.approx(0.6 * power.item(), rel=1e-4)


def test_matching_pulling_and_spreading_by_hand() -> None:
    energy, some = judged(), batch()
    objective = Adversarial(Hinge(), weight=0.0, matching=2.0, pulling=3.0, spreading=0.5, r1=0, r2=0)
    futures, z = drawn(energy, some, None, 2)
    near = (futures[0] - futures[1]).abs().mean((1, 2, 3, 4)) / (z[0] - z[1]).abs().mean((1, 2))
    spread = 0.5 * (1 / (near + 1e-5)).mean()
    found = slopes(objective.loss(energy, some, moment()).loss, energy.predictor)
    torch.testing.assert_close(found, slopes(spread, energy.predictor), rtol=1e-3, atol=1e-5)  # a weight of 0 leaves the critic unheard
    frozen = {k: v.detach() for k, v in energy.critic.named_parameters()}
    objective.weight = 1.0
    score = functional_call(energy.critic, frozen, (some.x, futures[0]))
    seen = [energy.critic.judge(some.x, video)[1] for video in (some.y, futures[0])]
    apart = sum((a.mean(0) - b.mean(0)).square().mean() for a, b in zip(*seen, strict=True))
    rows = seen[1][-1].flatten(1)
    pairs = [F.cosine_similarity(rows[i], rows[j], 0) ** 2 for i in range(3) for j in range(3) if i != j]
    want = -score.mean() + 2 * apart + 3 * sum(pairs) / 6 + spread
    found = slopes(objective.loss(energy, some, moment()).loss, energy.predictor)
    torch.testing.assert_close(found, slopes(want, energy.predictor), rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="no z to spread futures by in NoLatent; got spreading 0.5"):
        objective.loss(judged("none"), some, moment())


def test_the_predictor_listens_from_its_start_on() -> None:
    energy, some = judged(), batch()
    objective = Adversarial(Relativistic(), inner(), start=0.4)
    quiet = objective.loss(energy, some, moment(39))
    assert quiet.logs["lambda"].item() == 0 < objective.loss(energy, some, moment(40)).logs["lambda"].item()
    torch.testing.assert_close(slopes(quiet.loss, energy.predictor), slopes(inner().loss(energy.predictor, some, moment()).loss, energy.predictor))
    assert sum(float(v.abs().sum()) for v in slopes(quiet.loss, energy.critic).values()) > 0


def test_a_critic_at_rest_is_not_asked_and_does_not_move() -> None:
    energy, some = judged(), batch()
    objective = Adversarial(Relativistic(), inner(), rest=0.4)
    resting, awake = (objective.loss(energy, some, moment(step)) for step in (39, 40))
    assert "critic" not in resting.logs and "critic" in awake.logs
    torch.testing.assert_close(slopes(resting.loss, energy.predictor), slopes(inner().loss(energy.predictor, some, moment()).loss, energy.predictor))
    resting.loss.backward()
    assert all(p.grad is None for p in energy.critic.parameters())  # and not 0, which an optimiser would count as a step
    assert sum(float(v.abs().sum()) for v in slopes(awake.loss, energy.critic).values()) > 0
    with torch.no_grad():
        assert "critic" in objective.loss(energy, some, moment(0)).logs  # what is validated is validated the same way throughout
    with pytest.raises(UserError, match="share of the run, at least 0 and below 1; got rest 1"):
        Adversarial(Relativistic(), inner(), rest=1)


def test_the_best_of_n_is_balanced_by_the_one_that_learns() -> None:
    energy, some = judged("best_of"), batch()
    assert isinstance(energy.predictor.inference, BestOf)
    out = Adversarial(Relativistic(), inner()).loss(energy, some, moment())
    best = energy.predictor.explain(some.x, some.y, moment().generator).energy.sum()
    futures = drawn(energy, some, inner())[0][0].detach().requires_grad_()
    wish = Relativistic().generator(energy.critic(some.x, some.y).detach(), energy.critic(some.x, futures)).mean()
    pushed = torch.autograd.grad(wish, futures)[0].norm()
    assert out.logs["lambda"].item() == pytest.approx((2 * best.sqrt() / 150 / pushed).item(), rel=1e-4)


def test_augmentation_reaches_all_that_the_critic_sees() -> None:
    energy, some = judged(), batch()
    augment = DiffAugment(translation=0.125, cutout=0.25)
    out = Adversarial(Hinge(), r1=0, r2=0, augment=augment).loss(energy, some, moment())
    noise = moment().generator
    h = energy.predictor.encode(some.x)
    futures = energy.predictor.decode(h, energy.predictor.latent.prior(h, 1, noise)[0], some.x)
    past, future = augment(torch.cat((some.x, some.x)), torch.cat((some.y, futures)), noise)
    d, g = energy.critic(past, future).chunk(2)
    assert (out.logs["critic_true"].item(), out.logs["critic_made"].item()) == pytest.approx((d.mean().item(), g.mean().item()), rel=1e-4)


def test_a_validation_needs_no_gradient() -> None:
    energy, some = judged(), batch()
    objective = Adversarial(Relativistic(), inner(), weight=0.5)
    with torch.no_grad():
        out = objective.loss(energy, some, moment())
    assert out.loss.isfinite() and not out.loss.requires_grad and "distortion" in out.logs
    with torch.inference_mode():
        assert objective.loss(energy, some, moment()).loss.item() == out.loss.item()


def test_penalties_are_taken_in_full_precision() -> None:
    energy, some = judged(), batch()
    objective = Adversarial(Relativistic(), inner())
    full = objective.loss(energy, some, moment())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = objective.loss(energy, some, moment())
    assert mixed.loss.dtype == torch.float32
    true = Adversarial(Relativistic(), r1=1.0, r2=0)  # of true futures alone: no number that went through half precision
    exact = true.loss(energy, some, moment()).logs["penalty"].item()
    with torch.autocast("cpu", torch.bfloat16):
        assert true.loss(energy, some, moment()).logs["penalty"].item() == exact
    assert mixed.logs["penalty"].item() == pytest.approx(full.logs["penalty"].item(), rel=0.1)
    assert all(v.isfinite().all() for v in slopes(mixed.loss, energy).values())


def test_a_poisoned_batch_moves_no_balance() -> None:
    energy, some = judged(), batch()
    objective = Adversarial(Balance(rate=0.5), inner())
    objective.loss(energy, some, moment())
    before = objective.contest.k.clone()
    some.y[0, 0, 0, 0, 0] = float("nan")
    assert not objective.loss(energy, some, moment()).loss.isfinite()
    assert torch.equal(objective.contest.k, before)


def test_other_energies_are_refused_and_the_opponent_is_the_critic() -> None:
    energy = judged()
    objective = Adversarial(Relativistic(), inner())
    assert objective.opponent(energy) is energy.critic and objective.opponent(energy.predictor) is None and inner().opponent(energy) is None
    with pytest.raises(UserError, match="needs a predictor and a critic.*got PixelEnergy"):
        objective.loss(energy.predictor, batch(), moment())


class Step(nn.Module):
    """An energy and its objective as one module, as training wraps them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.energy = judged()
        # of the joint batch's four futures one is inferred, which two halves could not round to
        self.objective = Adversarial({"balance": Balance(rate=0.001), **CONTESTS}[name], inner(), inferred=0.3, matching=0.5, pulling=0.5, augment=DiffAugment())
        if name == "balance":
            self.objective.contest.k.fill_(0.3)

    def forward(self, some: Batch, step: int) -> Tensor:
        """The loss."""
        return self.objective.loss(self.energy, some, Moment(step, 3, torch.Generator().manual_seed(step))).loss


def three_steps(name: str, rank: int, world: int) -> dict[str, Any]:
    """Losses of three steps and what is left after them."""
    step = Step(name).train()
    trained = DistributedDataParallel(step) if world > 1 else step
    optimiser = torch.optim.SGD(step.parameters(), 1e-3)
    losses = []
    for i in range(3):
        loss = trained(batch(4, seed=i).map(lambda t: t[rank::world]), i)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return {"losses": torch.stack(losses), "state": step.state_dict()}


def every_contest(rank: int, world: int) -> dict[str, Any]:
    """Of the one with a state, too."""
    return {name: three_steps(name, rank, world) for name in ("balance", *CONTESTS)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process found, and what two found together."""
    together = Together(every_contest, tmp_path_factory.mktemp("together"))
    return every_contest(0, 1), together.results()


@pytest.mark.parametrize("name", ["balance", *CONTESTS])
def test_two_processes_learn_what_one_learns(name: str, runs: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    alone, found = runs[0][name], [each[name] for each in runs[1]]
    if name == "balance":
        assert abs(float(alone["state"]["objective.contest.k"]) - 0.3) > 1e-5
    for each in found:
        torch.testing.assert_close(each["state"], alone["state"], rtol=1e-4, atol=1e-5)
    start = Step(name).state_dict()
    assert max(float((alone["state"][k] - v).abs().max()) for k, v in start.items() if k.startswith("energy.critic")) > 1e-3
    assert F.l1_loss(found[0]["losses"], found[1]["losses"]) > 0, "each has clips of its own"
