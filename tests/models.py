"""Small models that several tests share."""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.energy.critic import CriticEnergy
from vidssl.energy.predictive import PixelEnergy
from vidssl.latents.balance import KLBalance
from vidssl.latents.base import Latent
from vidssl.latents.categorical import Categorical
from vidssl.latents.channel import FixedSNR
from vidssl.latents.delta import DeltaVAE
from vidssl.latents.drawn import Drawn
from vidssl.latents.dropout import LatentDropout
from vidssl.latents.erasure import Erasure
from vidssl.latents.free_bits import FreeBits
from vidssl.latents.fsq import FSQ
from vidssl.latents.gaussian import GaussianFixed, GaussianLearned
from vidssl.latents.inference import Inference
from vidssl.latents.irmae import IRMAE
from vidssl.latents.lfq import LFQ
from vidssl.latents.none import NoLatent
from vidssl.latents.priors.bank import BankPrior
from vidssl.latents.probed import Probed
from vidssl.latents.quantised import Quantised
from vidssl.latents.rvq import RVQ
from vidssl.latents.search.best_of import BestOf
from vidssl.latents.search.exhaustive import Exhaustive
from vidssl.latents.search.fista import Fista
from vidssl.latents.search.langevin import Langevin
from vidssl.latents.search.minimised import Minimised
from vidssl.latents.search.refined import Refined
from vidssl.latents.sparse import Sparse
from vidssl.latents.sparse_variance import SparseVariance
from vidssl.latents.topk import TopK
from vidssl.latents.vq import VQ
from vidssl.latents.wae import WAE
from vidssl.nets.critics import ClipCritic
from vidssl.nets.decoders import CopyDecoder, FetchDecoder
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.layout import Frames, Places
from vidssl.nets.predictors import MixPredictor

WIDTH = 16
LATENTS = ["none", "gaussian_fixed", "gaussian_learned", "gaussian_per_frame", "gaussian_fetched", "categorical", "categorical_slots", "vq", "vq_slots"]
LATENTS += ["fsq", "fsq_slots", "lfq", "rvq", "rvq_slots", "quantised"]
LATENTS += ["irmae", "topk", "topk_levels", "sparse", "sparse_per_frame", "sparse_variance"]
SEARCHED = ["best_of", "minimised", "minimised_gaussian", "refined", "fista", "exhaustive", "langevin"]
"""Models whose z is searched for; not all of their latents have an encoder."""
LATENTS += ["free_bits", "balance", "delta", "wae", "fixed_snr", "fixed_snr_places", "dropout", "dropout_per_frame", "erasure", "erasure_few"]


def latent(name: str) -> Latent:
    """One of the project's latents, small."""
    return {
        "none": NoLatent,
        "gaussian_fixed": lambda: GaussianFixed(WIDTH, 3),
        "gaussian_learned": lambda: GaussianLearned(WIDTH, 3),
        "gaussian_per_frame": lambda: GaussianLearned(WIDTH, 2, layout=Frames(6)),
        "gaussian_fetched": lambda: GaussianLearned(WIDTH, 3),
        "categorical": lambda: Categorical(WIDTH, 8),
        "categorical_slots": lambda: Categorical(WIDTH, 8, layout=Frames(6)),
        "vq": lambda: VQ(WIDTH, 8, dim=4),
        "vq_slots": lambda: VQ(WIDTH, 8, dim=4, layout=Frames(6)),
        "fsq": lambda: FSQ(WIDTH, [5, 4]),
        "fsq_slots": lambda: FSQ(WIDTH, [3, 2], layout=Frames(6), chained=True),
        "lfq": lambda: LFQ(WIDTH, 4, chained=False),
        "rvq": lambda: RVQ(WIDTH, 4, depth=2, dim=4),
        "rvq_slots": lambda: RVQ(WIDTH, 8, depth=3, dim=4, layout=Frames(6)),
        "quantised": lambda: Quantised(WIDTH, 3),
        "irmae": lambda: banked(IRMAE(WIDTH, 3, layers=2)),
        "topk": lambda: banked(TopK(WIDTH, 8, 2)),
        "topk_levels": lambda: TopK(WIDTH, 8, 2, levels=3),
        "sparse": lambda: Sparse(WIDTH, 8, 3),
        "sparse_per_frame": lambda: Sparse(WIDTH, 5, 2, layout=Frames(6)),
        "sparse_variance": lambda: SparseVariance(WIDTH, 8, 3),
        "best_of": lambda: Drawn(3, draws=8),
        "minimised": lambda: Drawn(3),
        "minimised_gaussian": lambda: GaussianFixed(WIDTH, 3),
        "refined": lambda: Sparse(WIDTH, 8, 3),
        "fista": lambda: SparseVariance(WIDTH, 8, 3),
        "exhaustive": lambda: TopK(WIDTH, 6, 2, levels=1),
        "langevin": lambda: Drawn(3),
        "free_bits": lambda: FreeBits(WIDTH, 3),
        "balance": lambda: KLBalance(WIDTH, 3),
        "delta": lambda: DeltaVAE(WIDTH, 2, layout=Frames(6)),
        "wae": lambda: WAE(WIDTH, 3),
        "fixed_snr": lambda: FixedSNR(WIDTH, 3),
        "fixed_snr_places": lambda: FixedSNR(WIDTH, 1, layout=Places(8, 8), sigma=2.0),
        "dropout": lambda: LatentDropout(WIDTH, 3, drop=0.2),
        "dropout_per_frame": lambda: LatentDropout(WIDTH, 2, layout=Frames(6)),
        "erasure": lambda: Erasure(WIDTH, 8),
        "erasure_few": lambda: Erasure(WIDTH, 2, layout=Frames(2)),
    }[name]()


def banked(base: Latent) -> Probed:
    """A limiter without a prior of its own, under a bank of random codes."""
    prior = BankPrior(WIDTH, base.units, entries=16, nearest=8)
    g = torch.Generator().manual_seed(0)
    prior.prepare(torch.randn(16, WIDTH, 8, 8, generator=g), torch.randn(16, base.units, generator=g))
    return Probed(base, prior)


def inference(name: str) -> Inference | None:
    """How the model `name` finds z."""
    return {
        "best_of": BestOf,
        "minimised": lambda: Minimised(3, amortised=False),
        "minimised_gaussian": lambda: Minimised(3),
        "refined": lambda: Refined(3),
        "fista": lambda: Fista(3),
        "exhaustive": Exhaustive,
        "langevin": lambda: Langevin(3, amortised=False),
    }.get(name, lambda: None)()


def model(name: str, past: int = 4, future: int = 6, channels: int = 1, size: int = 32, seed: int = 0) -> PixelEnergy:
    """A predictor with the latent `name`, in eval mode, its zero-initialised layers shaken so that z matters."""
    torch.manual_seed(seed)
    z = latent(name)
    target = None if name == "none" or not z.encoded else ClipEncoder(past + future, channels, WIDTH, 1)
    energy = PixelEnergy(
        size=size,
        encoder=ClipEncoder(past, channels, WIDTH, 1),
        target_encoder=target,
        latent=z,
        predictor=MixPredictor(WIDTH, z.slots * z.dim, 2),
        decoder=(FetchDecoder if name == "gaussian_fetched" else CopyDecoder)(future, channels, WIDTH, frame_width=8),
        price=1.0,
        inference=inference(name),
    )
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return energy.eval()


def judged(name: str = "gaussian_learned", future: int = 6) -> CriticEnergy:
    """That predictor and a critic whose slope is not tiny, in eval mode."""
    predictor = model(name)
    torch.manual_seed(3)
    critic = ClipCritic(4, future, 1, 32, width=4, depth=3, reach=2)
    with torch.no_grad():
        critic.head.weight.mul_(20)
    return CriticEnergy(predictor, critic).eval()


def clips(n: int = 3, past: int = 4, future: int = 6, channels: int = 1, size: int = 32, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random pasts and futures in [0, 1]."""
    made = torch.rand(n, past + future, channels, size, size, generator=torch.Generator().manual_seed(seed))
    return made[:, :past], made[:, past:]
