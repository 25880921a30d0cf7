"""The joint discrepancy against a double loop, its law where z is the prior's, and what it is for: z that tells of the past."""

from __future__ import annotations

import math

import pytest
import torch
from models import WIDTH

from vidssl.latents.wae import WAE, WIDTHS, discrepancy


def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    d = (a - b).square().sum(-1)
    return sum((-d / (2 * w * a.shape[-1])).exp() for w in WIDTHS) / len(WIDTHS)


def test_discrepancy_is_the_double_loop_over_drawn_priors() -> None:
    """The prior's draws one by one: (z_i, h_i) and (e_i, h_i), pairs i != j, the mean over many draws."""
    g = torch.Generator().manual_seed(0)
    b, u, many = 5, 2, 40_000
    z, h = 1.5 * torch.randn(b, u, generator=g, dtype=torch.float64) + 0.5, torch.randn(b, 3, generator=g, dtype=torch.float64)
    e = torch.randn(many, b, u, generator=g, dtype=torch.float64)
    total = torch.zeros(many, dtype=torch.float64)
    for i in range(b):
        for j in range(b):
            if i != j:
                alike = math.exp(-float((h[i] - h[j]).square().sum()) / (2 * 3))
                total += alike * (kernel(z[i], z[j]) + kernel(e[:, i], e[:, j]) - kernel(z[i], e[:, j]) - kernel(z[j], e[:, i]))
    total /= b * (b - 1)
    assert float(discrepancy(z, h)) == pytest.approx(float(total.mean()), abs=5 * float(total.std()) / many**0.5)


def test_discrepancy_of_the_prior_is_zero_on_average() -> None:
    g = torch.Generator().manual_seed(0)
    found = torch.stack([discrepancy(torch.randn(16, 3, generator=g), torch.randn(16, 2, generator=g)) for _ in range(400)])
    assert abs(float(found.mean())) < 4 * float(found.std()) / 20 and found.min() < 0, "unbiased, hence sometimes negative"


def test_only_the_joint_discrepancy_sees_that_z_tells_of_the_past() -> None:
    g = torch.Generator().manual_seed(0)
    h, other = torch.randn(2, 256, 2, generator=g)
    none = torch.zeros(256, 0)
    noise = 0.003  # several standard deviations for 256 rows
    assert abs(float(discrepancy(h, none))) < noise, "z = h is N(0, I) as a whole"
    assert abs(float(discrepancy(other, h))) < noise
    assert float(discrepancy(h, h)) > 8 * noise


def test_gradient_of_the_discrepancy() -> None:
    g = torch.Generator().manual_seed(0)
    z, h = torch.randn(4, 2, generator=g, dtype=torch.float64, requires_grad=True), torch.randn(4, 2, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: discrepancy(z, h), (z,))
    one = discrepancy(z[:1], h[:1])
    assert float(one.detach()) == 0


def test_its_descent_is_the_prior_whatever_the_past() -> None:
    """z = w h + m + s n on fresh rows ends at w = 0, m = 0, s = 1."""
    g = torch.Generator().manual_seed(0)
    w, m, s = (torch.tensor(v, requires_grad=True) for v in (2.0, 1.0, 0.4))
    optimizer = torch.optim.Adam([w, m, s], 0.1)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 100)
        h, n = torch.randn(2, 96, 1, generator=g)
        optimizer.zero_grad()
        discrepancy(w * h + m + s * n, h).backward()
        optimizer.step()
    assert torch.stack((w, m, s)).tolist() == pytest.approx([0, 0, 1], abs=0.1)


def test_the_batch_pays_together_in_training_and_not_in_eval() -> None:
    g = torch.Generator().manual_seed(0)
    z, context, target = WAE(WIDTH, 3), torch.randn(6, WIDTH, 8, 8, generator=g), torch.randn(6, WIDTH, 8, 8, generator=g)
    found = z.infer(context.requires_grad_(), target)
    h = z.summary(context)
    torch.testing.assert_close(h.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(h.var(0, correction=0), torch.ones(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.penalty, discrepancy(found.z.flatten(1), h).expand(6))
    assert found.rate_bits.isnan().all() and not z.priced and not h.requires_grad
    assert torch.autograd.grad(found.penalty.sum(), z.to_code.map.mlp[-1].bias)[0].abs().sum() > 0
    assert not z.eval().infer(context, target).penalty.any()
    assert WAE(WIDTH, 3, features=0).infer(context, target).penalty.isfinite().all()
