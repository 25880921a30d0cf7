"""Noisy limiters under a prior that was fitted afterwards: what they pay and draw then is the probe's."""

from __future__ import annotations

import math

import pytest
import torch
from models import WIDTH, latent

from vidssl.latents.probed import Probed
from vidssl.training.prior import probe_for


@pytest.mark.parametrize("name", ["free_bits", "delta", "wae", "fixed_snr", "dropout_per_frame", "erasure", "erasure_few"])
@torch.no_grad()
def test_under_a_probe(name: str) -> None:
    base, g = latent(name).eval(), torch.Generator().manual_seed(0)
    context, target = torch.randn(2, 4, WIDTH, 8, 8, generator=g).unbind()
    probe = probe_for(base, WIDTH)
    probe.prepare(context, base.infer(context, target, g).symbols)
    z = Probed(base, probe)
    found = z.infer(context, target, torch.Generator().manual_seed(0))
    nats = probe.nats(context, found.symbols) + base.log_q(context, target, found.symbols)
    torch.testing.assert_close(found.rate_bits, nats / math.log(2))
    assert z.prior(context, 5).shape == (5, 4, base.slots, base.dim)
    assert z.candidates(context, target).nats.isfinite().all() and z.proposals(context, target, 6).nats.isfinite().all()
    torch.testing.assert_close(z.embed(found.symbols), found.z)
