"""Contrastive divergence: its loss by hand, chains that go where the energy is low, what is kept of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models import clips, judged, model
from processes import Together
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vidssl.energy.base import Energy
from vidssl.energy.critic import CriticEnergy
from vidssl.objectives.chains import Chains, LatentChains, PixelChains
from vidssl.objectives.divergence import ContrastiveDivergence
from vidssl.objectives.limited import LimitedLatent
from vidssl.types import Batch, Moment, UserError


def batch(n: int = 3, seed: int = 1) -> Batch:
    return Batch(*clips(n, seed=seed), torch.arange(n))


def moment() -> Moment:
    return Moment(50, 100, torch.Generator().manual_seed(5))


class Given(Chains):
    """Ends of chains that are known."""

    def run(self, energy: Energy, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return x.flip(0), clips(len(x), seed=9)[1]


@pytest.mark.parametrize("margin", [None, 0.2])
def test_the_loss_is_that_of_its_formula(margin: float | None) -> None:
    energy, some = judged(), batch()
    out = ContrastiveDivergence(Given(), LimitedLatent(50.0, warmup=0), magnitude=0.3, margin=margin, weight=0.5).loss(energy, some, moment())
    low, high = energy.free_energy(some.x, some.y), energy.free_energy(some.x.flip(0), clips(3, seed=9)[1])
    gap = low - high if margin is None else (margin + low - high).clamp(min=0)
    own = LimitedLatent(50.0, warmup=0).loss(energy.predictor, some, moment()).loss
    want = own + 0.5 * (gap.mean() + 0.3 * (low.square() + high.square()).mean())
    assert out.loss.item() == pytest.approx(want.item(), rel=1e-5)
    assert (out.logs["energy_true"].item(), out.logs["energy_chain"].item()) == pytest.approx((low.mean().item(), high.mean().item()), rel=1e-5)
    ours, theirs = (torch.autograd.grad(loss, list(energy.critic.parameters())) for loss in (out.loss, want))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def chains(**changes: Any) -> PixelChains:
    return PixelChains(4, 6, 1, 32, **{"steps": 15, "rate": 5.0, "temperature": 0.0, "keep": 0, **changes})


def test_chains_in_pixels_go_down_and_no_weight_learns_on_the_way() -> None:
    energy, some = judged(), batch()
    x, y = chains().run(energy, some.x, moment().generator)
    start = energy.sample(some.x, 1, moment().generator)[0]
    assert torch.equal(x, some.x) and not y.requires_grad and y.min() >= 0 and y.max() <= 1
    assert bool((energy.free_energy(x, y) < energy.free_energy(x, start) - 0.1).all())
    assert all(p.grad is None for p in energy.parameters())
    assert (y - start).abs().max() <= 15 * 0.03 + 1e-6, "a step moves no pixel by more than the limit"


def test_a_poorly_limited_predictor_has_chains_too() -> None:
    """Any energy can be contrasted with where it would go: a pixel energy's chain nears its own prediction."""
    energy, some = model("none"), batch()
    made = energy.sample(some.x, 1)[0]
    x, y = chains(rate=0.1, limit=None, temperature=1e-4).run(energy, some.x, moment().generator)
    assert energy.free_energy(x, y).mean() < 0.05 * energy.free_energy(some.x, some.y).mean() and (y - made).abs().max() < 0.2


def test_chains_in_z_go_down_and_stay_among_what_the_predictor_makes() -> None:
    energy, some = judged(), batch()
    tools = LatentChains(steps=30, rate=0.05, temperature=1e-3)
    x, y = tools.run(energy, some.x, moment().generator)
    noise = moment().generator
    h = energy.encode(some.x)
    z = energy.latent.prior(h, 1, noise)[0]
    start = energy.predictor.decode(h, z, some.x).clamp(0, 1)
    assert torch.equal(x, some.x) and bool((energy.free_energy(x, y) < energy.free_energy(x, start)).all())
    assert (start - y).abs().max() > 1e-3
    for other in ("vq", "none"):
        with pytest.raises(UserError, match="chains in z move real numbers that are z itself; those of (VQ|NoLatent) are not"):
            tools.run(judged(other), some.x, None)
    with pytest.raises(UserError, match="need a predictor.*got PixelEnergy"):
        tools.run(model("none"), some.x, None)


def test_chains_are_kept_and_go_on_for_their_own_past() -> None:
    energy = judged()
    kept = chains(keep=6, reuse=1.0, steps=1)
    seen, ends = [], []
    for i in range(3):
        x, y = kept.run(energy, batch(3, seed=i).x, torch.Generator().manual_seed(i))
        seen.append(x)
        ends.append(y)
    assert int(kept.count) == 9
    assert torch.equal(seen[1], batch(3, seed=1).x), "there are not as many yet"
    pasts, futures = torch.cat(seen[:2]), torch.cat(ends[:2])
    for x, y in zip(seen[2], ends[2], strict=True):
        (which,) = [i for i in range(6) if (pasts[i] - x).abs().max() <= 0.5 / 255 + 1e-6]
        assert (futures[which] - y).abs().max() <= 0.03 + 1 / 255
    assert torch.equal(kept.kept_y[:3].float(), (ends[2] * 255).round()) and torch.equal(kept.kept_y[3:].float(), (ends[1] * 255).round())
    assert set(kept.state_dict()) == {"kept_x", "kept_y", "count"}
    with pytest.raises(UserError, match="got keep 2 for a batch of 3: keep more, or 0 for none"):
        chains(keep=2).run(energy, batch().x, None)


def test_what_is_no_number_is_not_kept_and_validation_keeps_nothing() -> None:
    energy, kept, some = judged(), chains(keep=3, steps=1), batch()
    with torch.inference_mode():
        out = ContrastiveDivergence(kept).loss(energy, some, moment())
    assert out.loss.isfinite() and int(kept.count) == 0
    some.x[1, 0, 0, 0, 0] = float("nan")
    kept.run(energy, some.x, moment().generator)
    assert int(kept.count) == 3 and kept.kept_x[0].any() and not kept.kept_x[1].any() and kept.kept_x[2].any()


def test_an_energy_that_paints_nothing_is_refused() -> None:
    energy = judged()
    energy.paints = False
    with pytest.raises(UserError, match="CriticEnergy paints none"):
        chains().run(energy, batch().x, None)


class Step(nn.Module):
    """An energy and its objective as one module, as training wraps them."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = judged()
        self.objective = ContrastiveDivergence(chains(keep=8, steps=2, temperature=1e-6), LimitedLatent(50.0, warmup=0))

    def forward(self, some: Batch, step: int) -> Tensor:
        """The loss."""
        return self.objective.loss(self.energy, some, Moment(step, 4, torch.Generator().manual_seed(step))).loss


def four_steps(rank: int, world: int) -> dict[str, Any]:
    """What is left after four steps, the last of which go on with kept chains."""
    step = Step().train()
    trained = DistributedDataParallel(step) if world > 1 else step
    optimiser = torch.optim.SGD(step.parameters(), 1e-3)
    for i in range(4):
        loss = trained(batch(4, seed=i).map(lambda t: t[rank::world]), i)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return step.state_dict()


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    together = Together(four_steps, tmp_path)
    alone, start = four_steps(0, 1), Step().state_dict()
    for found in together.results():
        for name, value in alone.items():
            if value.dtype == torch.uint8:
                assert (found[name].int() - value.int()).abs().max() <= 1, name
            else:
                torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert int(alone["objective.chains.count"]) == 16 and (alone["energy.critic.head.weight"] - start["energy.critic.head.weight"]).abs().max() > 1e-4
