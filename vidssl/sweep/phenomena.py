"""What a latent of the wrong capacity does, each shown by small trainings in a world where the truth is known.

Every phenomenon is a prediction that is made before training and a measurement after it. They are small and on a CPU: a minute
or less for each training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from vidssl.data.worlds.noisy_tv import NoisyTV
from vidssl.data.worlds.oracle import Truth, truth
from vidssl.data.worlds.rates import critical_price, gaussian_rate, spectrum
from vidssl.data.worlds.wind import Wind
from vidssl.energy.base import LatentEnergy
from vidssl.energy.embedding import EmbeddingEnergy
from vidssl.energy.predictive import PixelEnergy
from vidssl.evaluation.auroc import auroc
from vidssl.evaluation.evaluate import evaluate
from vidssl.evaluation.truth import information_bits
from vidssl.latents.base import Latent
from vidssl.latents.gaussian import GaussianLearned
from vidssl.latents.search.minimised import Minimised
from vidssl.nets.encoders import ClipEncoder
from vidssl.nets.predictors import MixPredictor
from vidssl.objectives.limited import LimitedLatent
from vidssl.sweep.cell import batches, train_cell
from vidssl.sweep.screen import screen
from vidssl.sweep.trial import FORK, Report, Row, spec_of_run
from vidssl.training.budget import train_steps
from vidssl.types import Batch

SEARCH = 1000
"""Steps of descent for a minimum over z."""


def _scores(spec: dict[str, Any], pasts: int = 8) -> tuple[Row, PixelEnergy]:
    data, _, spent = train_cell(copy.deepcopy(spec))
    assert isinstance(spent.energy, PixelEnergy)
    return evaluate(spent.energy, data, futures=4, draws=256, pasts=pasts, limit=64), spent.energy


def _fork_truths(count: int = 16) -> list[Truth]:
    from vidssl.data.worlds.fork import Fork

    world, noise = Fork(**FORK["init_args"]), torch.Generator().manual_seed(0)
    return [truth(world, world.episode(0, i).state, noise) for i in range(count)]


def blur(seed: int, report: Report) -> Iterator[Row]:
    """Without z the mean of all futures has less energy than any true one: blur AUROC 0."""
    report("deterministic")
    found, _ = _scores(spec_of_run("none.NoLatent", seed=seed))
    yield {"setting": "no z", "measure": "AUROC against the blurred mean", "predicted": "0", "measured": found["auroc"]["blurred"], "holds": found["auroc"]["blurred"] <= 0.1}


def collapse(seed: int, report: Report) -> Iterator[Row]:
    """A z at each place without a limit explains any future: the energy is low everywhere. Noise and a price are the cure.

    Everything is painted, and F(x, y) is the minimum over z that descent finds. By the encoder's z alone a shuffled future still looks worse, since the
    encoder never saw such a pair: that is the inference's failure and not the energy's height.
    """
    places = {"class_path": "vidssl.nets.layout.Places", "init_args": {"rows": 8, "columns": 8}}
    door = {"class_path": "vidssl.nets.predictors.PlacePredictor", "init_args": {"dim": 64, "rows": 8, "columns": 8, "depth": 1}}
    for setting, latent, predicted in (
        ("64 free numbers at each place", "deterministic.Deterministic", "near 0.5"),
        ("the same with noise and a price", "gaussian.GaussianLearned", "near 1"),
    ):
        report(setting)
        spec = spec_of_run(latent, seed=seed, dim=64, layout=places, predictor=door)
        spec["network"] |= {"patch": 2, "encoder_depth": 0, "decoder": "PaintDecoder"}
        data, _, spent = train_cell(spec)
        test, energy = data.clips("test").batch(0, list(range(128))).unit(), spent.energy
        assert isinstance(energy, PixelEnergy)
        report(f"{setting}: the energies of true and of shuffled futures")
        energy.inference = Minimised(SEARCH, 1.0)
        with torch.no_grad():
            true, wrong = energy.free_energy(test.x, test.y), energy.free_energy(test.x, test.y.roll(64, 0))
        found = auroc(true, wrong)
        holds = found <= 0.65 if "free" in setting else found >= 0.9
        setting = f"{setting}; F {float(true.mean()):.2g}, shuffled {float(wrong.mean()):.2g}"
        yield {"setting": setting, "measure": "AUROC against shuffled futures", "predicted": predicted, "measured": found, "holds": holds}


def silence(seed: int, report: Report) -> Iterator[Row]:
    """Above the critical price, twice the largest variance of the future, a Gaussian z falls silent; well below it speaks."""
    critical = sum(critical_price(known) for known in _fork_truths()) / 16
    for share in (1.5, 1 / 24):
        report(f"price {share * critical:.3g}")
        found, _ = _scores(spec_of_run("gaussian.GaussianLearned", seed=seed, price=share * critical, dim=8))
        silent = share > 1
        yield {
            "setting": f"price {share * critical:.3g}, critical {critical:.3g}",
            "measure": "bits paid",
            "predicted": "0" if silent else "above 1",
            "measured": found["rate_bits"],
            "holds": found["rate_bits"] < 0.05 if silent else found["rate_bits"] > 1,
        }


def holes(seed: int, report: Report) -> Iterator[Row]:
    """A Gaussian prior over discrete futures draws from between them; a code book does not."""
    for setting, latent, more, predicted in (
        ("Gaussian, fixed prior", "gaussian.GaussianFixed", {"dim": 8, "price": 1.0}, "many"),
        ("VQ, 32 codes", "vq.VQ", {"classes": 32}, "few"),
    ):
        report(setting)
        found, _ = _scores(spec_of_run(latent, seed=seed, **more))
        off = 1 - found["mode_precision"]
        yield {"setting": setting, "measure": "share of futures that are none", "predicted": predicted, "measured": off, "holds": off > 0.05 if predicted == "many" else off < 0.02}


def memory(seed: int, report: Report) -> Iterator[Row]:
    """In wind a longer past tells more of the hidden cause, so a learned prior pays fewer bits for the same future."""
    paid: list[float] = []
    for past in (2, 3, 4, 6):
        report(f"{past} past frames")
        arguments = {"size": 32, "past": past, "future": 4, "speed": 0.9, "wind": 0.02, "jitter": 0.3}
        world = Wind(**arguments)
        spec = spec_of_run("gaussian.GaussianLearned", {"class_path": "vidssl.data.worlds.wind.Wind", "init_args": arguments}, seed, 800, 1.0, dim=4)
        spec["training"]["scale"] = 20.0
        found, _ = _scores(spec)
        noise = torch.Generator().manual_seed(0)
        truths = [truth(world, world.episode(0, i).state, noise, 64, 64) for i in range(16)]
        ideal = sum(gaussian_rate(spectrum(known), 1.0) for known in truths) / len(truths)
        paid.append(found["rate_bits"])
        holds = len(paid) == 1 or paid[-1] < paid[-2]
        yield {"setting": f"{past} past frames", "measure": "bits paid", "predicted": f"{ideal:.2f} (Gaussian, of 64 draws), and falling", "measured": paid[-1], "holds": holds}


def noise(seed: int, report: Report) -> Iterator[Row]:
    """In pixels a coin-flip pixel of amplitude a is told when a > sqrt(2 price), however useless.

    An embedding is the way out if it leaves the noise out. That of an encoder made to predict does not: nothing forbids it to pass noise on. One whose own
    features were limited by noise while it learned has to spend them on what is of use.
    """
    price = 0.05
    threshold = math.sqrt(2 * price)
    for amplitude in (0.6 * threshold, 2.5 * threshold):
        report(f"amplitude {amplitude:.2f}")
        arguments = {"size": 20, "past": 3, "future": 4, "side": 3, "speed": 1, "patch": 4, "amplitude": amplitude}
        world = {"class_path": "vidssl.data.worlds.noisy_tv.NoisyTV", "init_args": arguments}
        spec = spec_of_run("gaussian.GaussianLearned", world, seed, 1200, price, dim=64)
        data, train, spent = train_cell(spec)
        assert isinstance(data.world, NoisyTV) and isinstance(spent.energy, PixelEnergy)
        above = amplitude > threshold
        yield _waste(spent.energy, data.world, f"pixels, amplitude {amplitude:.2f}, threshold {threshold:.2f}", several=above)
    share = price / _critical(spent.energy.seen, data.world)  # as cheap, measured by what there is to tell, as in pixels
    for kind, setting in (("ClipEncoder", "embedding without a limit"), ("ChannelEncoder", "embedding limited by noise")):
        report(f"{setting}: its teacher, which predicts pixels without z")
        spec = spec_of_run("none.NoLatent", world, seed, 1200)
        spec["network"]["encoder"] = kind
        _, _, plain = train_cell(spec)
        assert isinstance(plain.energy, PixelEnergy) and isinstance(plain.energy.encoder, ClipEncoder)
        report(setting)
        torch.manual_seed(seed)
        energy = _embedding(plain.energy.encoder, spent.energy, GaussianLearned(48, 64))
        energy.price.fill_(share * _critical(energy.seen, data.world))
        scale = float(energy.seen(*_clips(train)).var(0).sum())
        learned = train_steps(1200, energy, LimitedLatent(scale), batches(train, 64, seed), 4e-3, 0.99, seed)
        assert isinstance(learned.energy, EmbeddingEnergy)
        yield _waste(learned.energy, data.world, f"{setting}, amplitude {amplitude:.2f}", several=kind == "ClipEncoder")


def _waste(energy: LatentEnergy, world: NoisyTV, setting: str, several: bool) -> Row:
    told, useful = told_of(energy, world)
    wasted = max(0.0, told - useful)
    return {
        "setting": f"{setting}; about the direction {useful:.2f}",
        "measure": "bits of z about the noise (of 64 futures, 6 at most)",
        "predicted": "several" if several else "near 0",
        "measured": wasted,
        "holds": wasted > 1 if several else wasted < 0.5,
    }


def _clips(train: Batch, count: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    some = Batch(train.x[:count], train.y[:count], train.key[:count]).unit()
    return some.x, some.y


def _embedding(teacher: ClipEncoder, pixels: PixelEnergy, latent: Latent) -> EmbeddingEnergy:
    """The same networks as the pixel model's, new, around a frozen teacher."""
    encoder = ClipEncoder(pixels.past, pixels.channels, 48, 1, 4)
    target = ClipEncoder(pixels.past + pixels.future, pixels.channels, 48, 1, 4)
    predictor = MixPredictor(48, latent.slots * latent.dim, 2)
    return EmbeddingEnergy(pixels.size, pixels.future, encoder, target, latent, predictor, teacher, 1.0)


@torch.no_grad()
def _critical(seen: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], world: NoisyTV, pasts: int = 8) -> float:
    """The price above which z falls silent, in whatever space futures are seen: twice the largest variance of the future given the past."""
    generator, found = torch.Generator().manual_seed(0), 0.0
    for i in range(pasts):
        episode = world.episode(1, i)
        known = truth(world, episode.state, generator, 1, 64)
        x = (episode.x.float() / 255).expand(64, -1, -1, -1, -1)
        found += critical_price(Truth(seen(x, known.y).cpu(), known.p, known.modes, False))
    return found / pasts


@torch.no_grad()
def told_of(energy: LatentEnergy, world: NoisyTV, pasts: int = 8, draws: int = 64) -> tuple[float, float]:
    """I(z; y | x) and I(z; direction | x) in bits, from `draws` futures of each past; the first is at most log2 of their number.

    The second is the information left when the futures of one direction, whatever their noise, count as one.
    """
    generator, total, useful = torch.Generator().manual_seed(0), 0.0, 0.0
    for i in range(pasts):
        state = world.episode(1, i).state
        x = (world.episode(1, i).x.float() / 255).expand(draws, -1, -1, -1, -1)
        known = truth(world, state, generator, 1, draws)
        q = energy.posterior(x, known.y)
        total += information_bits(q, known.p, generator)
        kinds = world.classes_of(known.modes)[:, 0]
        for kind in kinds.unique():
            rows = (kinds == kind).nonzero()[:, 0]
            within = truth_of(known, rows)
            q = energy.posterior(x[: len(rows)], within.y)
            useful -= len(rows) / draws * information_bits(q, within.p, generator)
    return total / pasts, (total + useful) / pasts


def truth_of(known: Truth, rows: torch.Tensor) -> Truth:
    """Some of the drawn futures, equally likely."""
    return Truth(known.y[rows], torch.full((len(rows),), 1 / len(rows), dtype=torch.float64), known.modes[rows], False)


PHENOMENA: dict[str, Callable[[int, Report], Iterator[Row]]] = {f.__name__: f for f in (blur, collapse, silence, holes, memory, noise, screen)}
