"""How many bits about a future buy how much squared error: rate-distortion functions and the prices at which z falls silent.

Two routes. The Gaussian one needs only the covariance of the future given the past, and reverse water-filling (Cover & Thomas
2006, Theorem 10.3.3) is exact for a Gaussian future, else an upper bound of the rate. The discrete one takes a listed set of
futures and lets the answers move freely (Blahut 1972, Arimoto 1972; Rose 1994 for the moving answers).

Distortion is the expected squared error summed over the clip; a rate is in bits per clip; a price multiplies nats. Minimising
distortion + price * nats is a likelihood with a decoder of variance price / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vidssl.data.worlds.oracle import Truth
from vidssl.types import UserError

STEPS = 5000
SETTLED = 1e-12
"""Alternation stops when a step lowers the Lagrangian by less than this share of it, or after `STEPS`."""


def spectrum(truth: Truth) -> Tensor:
    """Eigenvalues of Cov(y | x) in pixel space, descending, ``[M]`` float64; the others are 0.

    They come from the ``[M, M]`` Gram matrix of the centred futures, so no matrix of pixels is made. For listed futures they
    are exact. For draws the covariance is the unbiased one (M / (M - 1)), and so is their sum, which equals
    :meth:`Truth.distortion`; the largest of them is biased upwards, the more the fewer the draws.
    """
    off = (truth.y.double() - torch.einsum("m,m...->...", truth.p, truth.y.double())).flatten(1)
    off = off * truth.p.sqrt()[:, None]
    fair = 1.0 if truth.exact else len(truth.p) / (len(truth.p) - 1)
    return torch.linalg.eigvalsh(off @ off.T).flip(0).clamp_min(0) * fair


def critical_price(truth: Truth) -> float:
    """The price above which a z that says nothing is a local optimum: 2 * the largest eigenvalue of Cov(y | x).

    Posterior collapse in the linear Gaussian case (Lucas et al. 2019, "Don't Blame the ELBO!"): a direction of variance v is
    told when v exceeds the decoder's variance, price / 2. For a Gaussian future nothing is worth telling above it. For other
    futures something may be: telling a rare, distant one pays at higher prices yet, see :func:`rate_distortion`.
    """
    return 2 * float(spectrum(truth)[0])


def gaussian_rate(eigenvalues: Tensor, price: float) -> float:
    """Bits of the best code at `price` for a Gaussian future: the sum over eigenvalues v > price / 2 of 1/2 log2(2 v / price).

    Raises:
        UserError: a price that is not positive.
    """
    _check("price", price, price > 0, "above 0")
    return _rate(eigenvalues, price / 2)


def rate_at(eigenvalues: Tensor, distortion: float) -> float:
    """R(D) in bits of a Gaussian with these ``eigenvalues [n]``: reverse water-filling. 0 from D = their sum on, infinite at D = 0.

    Raises:
        UserError: a negative distortion.
    """
    _check("distortion", distortion, distortion >= 0, "0 or more")
    v = _sorted(eigenvalues)
    if distortion >= float(v.sum()):
        return 0.0
    # with the k largest under water of one level, the others are given up whole: the level is what is left for each of the k
    rest = v.sum() - v.cumsum(0)
    level = (distortion - rest) / torch.arange(1, len(v) + 1)
    k = int((level <= v).nonzero()[-1])  # one more would need less than its own variance
    return _rate(v, float(level[k])) if level[k] > 0 else math.inf


def distortion_at(eigenvalues: Tensor, rate: float) -> float:
    """D(R), the inverse of :func:`rate_at`: the least expected squared error at `rate` bits.

    Raises:
        UserError: a negative rate.
    """
    _check("rate", rate, rate >= 0, "0 or more")
    v = _sorted(eigenvalues)
    if not len(v) or rate == 0:
        return float(v.sum())
    level = ((v.log().cumsum(0) - 2 * rate * math.log(2)) / torch.arange(1, len(v) + 1)).exp()
    k = int((level <= v).nonzero()[-1])
    return float(v.clamp_max(level[k]).sum())


@dataclass
class Trade:
    """One point of a rate-distortion curve.

    Attributes:
        price: of a nat, in squared error: minus the slope of the curve there, dD / dR with R in nats.
        rate: bits of the code. distortion: its expected squared error.
        answers: ``[J, M]`` float64, what the J answers are: mixtures of the M futures. p: ``[J]``, how often each is given.
        slack: bits by which rate + distortion / price (in bits, too) may exceed the least at this price, by the Kuhn-Tucker
            conditions as far as they were checked.
    """

    price: float
    rate: float
    distortion: float
    answers: Tensor
    p: Tensor
    slack: float


def rate_distortion(truth: Truth, price: float) -> Trade:
    """The cheapest code for the listed futures at `price`: minimises distortion + price * nats.

    Answers are free: any picture. Alternates three steps that each lower the Lagrangian: p(answer | future) in proportion to
    p(answer) exp(-distance / price), p(answer) as its mean (Blahut-Arimoto), and each answer as the mean of the futures that
    call for it (Rose 1994). All answers are mixtures of the futures, so only distances between futures are needed.
    This is a mixture of spheres fitted to the futures, whose log-likelihood is concave in the mixing measure but not in the places
    of M points; so what is found can be done, and is an upper bound of the least. It is the better of two starts, the futures themselves and points near their
    mean, and `slack` tells how far from the optimum it can be: the Lagrangian is at least the found one minus
    price * ln max over pictures a of sum_m p_m exp(-|y_m - a|^2 / price) / Z_m (Berger 1971, section 2.5), the maximum being
    sought by ascent from every future, every pair's middle and the mean.

    Raises:
        UserError: a price that is not positive, or futures that are draws.
    """
    _check("price", price, price > 0, "above 0")
    if not truth.exact:
        raise UserError(
            f"a rate-distortion curve by listing needs every future; got {len(truth.p)} draws: list them (truth(few=...)), "
            "or take the Gaussian bound gaussian_rate(spectrum(truth), price)"
        )
    flat, p = truth.y.flatten(1).double(), truth.p
    d = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square()
    eye, mean = torch.eye(len(p), dtype=torch.float64), p.expand(len(p), -1)
    silent = Trade(price, 0.0, float(_to(p[None], d)[0] @ p), p[None], p.new_ones(1), 0.0)
    found = [silent, *(_settle(start, p, d, price) for start in (eye, 0.9 * mean + 0.1 * eye))]
    best = min(found, key=lambda t: t.distortion + price * t.rate * math.log(2))
    middles = (eye[:, None] + eye).flatten(0, 1)[torch.ones_like(d).triu().flatten().bool()] / 2
    best.slack = _slack(best, torch.cat((middles, p[None], best.answers)), p, d)
    return best


def _settle(answers: Tensor, p: Tensor, d: Tensor, price: float) -> Trade:
    """Alternate from these answers until the Lagrangian settles."""
    q, last = p.clone(), math.inf
    for _ in range(STEPS):
        log_joint = q.clamp_min(1e-300).log()[:, None] - _to(answers, d) / price  # [J, M]
        log_z = log_joint.logsumexp(0)
        share = (log_joint - log_z).exp() * p
        q = share.sum(1)
        alive = q > 1e-12
        share, q = share[alive], q[alive]
        answers = share / q[:, None]
        now = float(-(p * log_z).sum())
        if last - now <= SETTLED * abs(now):
            break
        last = now
    code = share / q[:, None] / p  # p(m | answer) / p(m)
    rate = float(torch.special.xlogy(share, code).sum()) / math.log(2)
    return Trade(price, max(0.0, rate), float((share * _to(answers, d)).sum()), answers, q, 0.0)


def _slack(trade: Trade, tried: Tensor, p: Tensor, d: Tensor) -> float:
    """log2 of the largest sum_m p_m exp(-|y_m - a|^2 / price) / Z_m that ascent from the mixtures in `tried` finds."""
    log_z = (trade.p.log()[:, None] - _to(trade.answers, d) / trade.price).logsumexp(0)
    for _ in range(100):
        log_pull = p.log() - log_z - _to(tried, d) / trade.price  # [A, M]
        tried = log_pull.softmax(1)
    return max(0.0, float(log_pull.logsumexp(1).max()) / math.log(2))


def _to(mixtures: Tensor, d: Tensor) -> Tensor:
    """Squared distances ``[J, M]`` of mixtures ``[J, M]`` of points from the points, by the points' own ``d [M, M]``."""
    cross = mixtures @ d
    return (cross - 0.5 * (cross * mixtures).sum(1, keepdim=True)).clamp_min(0)


def _rate(eigenvalues: Tensor, level: float) -> float:
    above = eigenvalues[eigenvalues > level].double()
    return 0.5 * float((above / level).log2().sum())


def _sorted(eigenvalues: Tensor) -> Tensor:
    return eigenvalues[eigenvalues > 0].double().sort(descending=True).values


def _check(name: str, value: float, good: bool, rule: str) -> None:
    if not (good and math.isfinite(value)):
        raise UserError(f"a {name} is finite and {rule}; got {value}")
