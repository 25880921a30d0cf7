"""One cell of a sweep: train a limiter, score it under its own prior, fit the probe prior, score it again.

The network is the same for all limiters, save for the size of z at the predictor's door. A limiter that learns no prior draws from a
bank of its codes, by nearest past, as its own; real-valued codes without noise are rounded (their operational rate) before the probe is fitted.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from vidssl.data.config import make_data
from vidssl.data.dataset import ClipDataset
from vidssl.data.module import ClipData
from vidssl.data.worlds.oracle import truth
from vidssl.energy.predictive import PixelEnergy
from vidssl.evaluation.evaluate import evaluate
from vidssl.evaluation.protocol import chosen
from vidssl.evaluation.rates import mean_distortion, operational_step
from vidssl.latents.base import Exactly
from vidssl.latents.priors.bank import BankPrior
from vidssl.latents.probed import Probed, Rounded
from vidssl.nets.decoders import Decoder
from vidssl.nets.encoders import Encoder
from vidssl.nets.error_encoder import ErrorEncoder
from vidssl.objectives.base import Objective
from vidssl.objectives.limited import LimitedLatent
from vidssl.objectives.relative import RelativeLimitedLatent, RelativeTargetRate
from vidssl.objectives.target_rate import TargetRate
from vidssl.spec import build
from vidssl.training.budget import Spent, train_steps
from vidssl.training.prior import fit_prior, gather, probe_for
from vidssl.types import Batch, UserError, to_uint8

SHOWN_PASTS, SHOWN_FUTURES = 3, 6
TRIED = 192
"""Clips on which the step of an operational rate is found."""


def run_cell(spec: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """Train and score what `spec` describes.

    Returns:
        ``native`` and ``probe``, the keys of ``metrics.json`` under the limiter's own and under the probe prior; ``distortion`` of
        inferred z on test clips, ``price`` at the end of training, ``seconds`` of training, ``futures`` (arrays, for pictures).

    Raises:
        UserError: parts that do not fit, and what the parts themselves refuse.
    """
    data, train, spent = train_cell(spec, device)
    trained, seed = spent.energy, int(spec["seed"])
    assert isinstance(trained, PixelEnergy)
    probe, scores = spec["probe"], spec["scores"]
    clips = data.clips("test")
    test = clips.batch(0, chosen(len(clips), TRIED)).to(device).unit()
    distortion = mean_distortion(trained, test.x, test.y)
    made: dict[str, Any] = {
        "distortion": distortion,
        "price": float(trained.price),
        "seconds": spent.cpu_seconds,
        "parameters": sum(p.numel() for p in trained.parameters()),
        "without": _without(data, test),
    }
    fresh = [Batch(train.x[r], train.y[r], train.key[r]) for r in torch.arange(min(probe["clips"], len(train.x))).split(64)]

    def scored(model: PixelEnergy) -> dict[str, Any]:
        return evaluate(model, data, scores["futures"], scores.get("draws", 1), scores.get("pasts", 1), scores["clips"], 0, device)

    if not trained.latent.units:
        made["native"] = made["probe"] = scored(trained)
        return {**made, "native_prior": "none", "futures": _shown(trained, test)}
    codes = gather(trained, fresh, seed)
    native, made["native_prior"] = trained, "own"
    if not draws(trained, test.x[:2]):
        bank = BankPrior(codes.context.shape[1], trained.latent.units)
        fit_prior(bank, codes)
        native, made["native_prior"] = trained.with_latent(Probed(trained.latent, bank.to(device))), "nearest codes"
    made["native"] = scored(native)
    made["native"]["rate_bits"] = mean_bits(native, clips, device)
    if certain(trained, test):
        made["step"] = operational_step(trained, test.x, test.y, made["without"])
        trained = trained.with_latent(Rounded(trained.latent, made["step"]))
        codes = gather(trained, fresh, seed)
        made["rounded_distortion"] = mean_distortion(trained, test.x, test.y)
    torch.manual_seed(seed)
    prior = probe_for(trained.latent, codes.context.shape[1])
    fit_prior(prior, codes, probe["steps"], seed=seed)
    probed = trained.with_latent(Probed(trained.latent, prior.to(device))).eval()
    made["probe"] = scored(probed)
    # the clips that are scored are few: by what happened in them alone, bits are off by a tenth
    made["probe"]["rate_bits"] = mean_bits(probed, clips, device)
    if "step" in made:
        made["probe"]["operational_bits"] = made["probe"]["rate_bits"]
    return {**made, "futures": _shown(probed, test)}


def train_cell(spec: dict[str, Any], device: str = "cpu") -> tuple[ClipData, Batch, Spent]:
    """The data, its training clips, and the trained model of a cell."""
    data, train = _data(yaml.safe_dump(spec["data"], sort_keys=True), spec["training"]["clips"])
    seed, training = int(spec["seed"]), spec["training"]
    torch.manual_seed(seed)
    energy = make_energy(spec, data).to(device)
    objective = _objective(spec["objective"], training)
    order = batches(train, training["batch"], seed)
    return data, train, train_steps(training["steps"], energy, objective, order, training["lr"], training.get("decay", 0.99), seed)


def make_energy(spec: dict[str, Any], data: ClipData) -> PixelEnergy:
    """The sweep's network around the cell's limiter."""
    net = spec["network"]
    width, patch = net["width"], net.get("patch", 4)
    latent = build(_whole(_sized(spec["latent"], width)))

    def encoder(frames: int, kind: str = net.get("encoder", "ClipEncoder")) -> Encoder:
        shape = {"frames": frames, "channels": data.channels, "width": width, "depth": net["encoder_depth"], "patch": patch}
        return _part(f"vidssl.nets.encoders.{kind}", **shape)

    def decoder() -> Decoder:
        shape = {"frames": data.future, "channels": data.channels, "width": width, "patch": patch, "frame_width": net["frame_width"]}
        return _part(f"vidssl.nets.decoders.{net['decoder']}", **shape)

    inference = build(_whole(spec["inference"])) if spec["inference"] else None
    target = None
    if latent.dim and (inference is None or inference.encodes):
        target = encoder(data.past + data.future, net.get("target_encoder", "ClipEncoder"))
        if spec["target"] == "error":  # sees what a predictor without z got wrong
            guess = _part("vidssl.nets.predictors.MixPredictor", width=width, latent=0, depth=net["depth"])
            target = ErrorEncoder(encoder(data.past), guess, decoder(), target)
        elif spec["target"] != "clip":
            raise UserError(f"the target encoder sees the 'clip' or the 'error' of a predictor without z; got target {spec['target']!r}")
    if spec["predictor"]:
        predictor = build(_whole(_sized(spec["predictor"], width)))
    else:
        kind = f"vidssl.nets.predictors.{net.get('predictor', 'MixPredictor')}"
        predictor = _part(kind, width=width, latent=latent.slots * latent.dim, depth=net["depth"])
    return PixelEnergy(data.size, encoder(data.past), target, latent, predictor, decoder(), float(spec["price"]), inference)


@torch.no_grad()
def mean_bits(energy: PixelEnergy, clips: ClipDataset, device: str) -> float:
    """Bits paid, the mean over all of `clips`; NaN where none are paid."""
    noise, rows = torch.Generator(device).manual_seed(0), torch.arange(len(clips)).split(64)
    parts = [clips.batch(0, part.tolist()).to(device).unit() for part in rows]
    return float(torch.cat([energy.explain(part.x, part.y, noise).code.rate_bits for part in parts]).mean())


def draws(energy: PixelEnergy, x: Tensor) -> bool:
    """Whether the limiter has a prior of its own to draw from."""
    try:
        energy.latent.prior(energy.encode(x), 1)
    except UserError:
        return False
    return True


@torch.no_grad()
def certain(energy: PixelEnergy, test: Batch) -> bool:
    """Whether codes are real-valued and without noise, so that only an operational rate can be given."""
    return not energy.latent.alphabet and not energy.latent.cell and isinstance(energy.posterior(test.x[:2], test.y[:2]), Exactly)


@torch.no_grad()
def _shown(energy: PixelEnergy, test: Batch) -> dict[str, np.ndarray]:
    rows = chosen(len(test.x), SHOWN_PASTS)
    x, y = test.x[rows], test.y[rows]
    made = energy.eval().sample(x, SHOWN_FUTURES, torch.Generator().manual_seed(0))
    return {"x": to_uint8(x).cpu().numpy(), "y": to_uint8(y).cpu().numpy(), "futures": to_uint8(made).cpu().numpy()}


def _without(data: ClipData, test: Batch) -> float:
    """Distortion of the best prediction without z: of the mean of futures in a world, of the last frame otherwise."""
    if data.world is None or test.state is None:
        return float((test.y - test.x[:, -1:]).square().flatten(1).sum(1).mean())
    noise = torch.Generator().manual_seed(0)
    found = [truth(data.world, state, noise, 64, 64).distortion() for state in test.state[:48].cpu()]
    return sum(found) / len(found)


@lru_cache(2)
def _data(section: str, clips: int) -> tuple[ClipData, Batch]:
    """The data and its training clips as uint8: read once for all cells of a process."""
    data = make_data(yaml.safe_load(section), "the data of the sweep")
    train = data.clips("train")
    rows = chosen(len(train), clips)  # of many videos a part of each
    parts = [train.batch(0, rows[i : i + 256]) for i in range(0, len(rows), 256)]
    return data, Batch(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]), torch.cat([p.key for p in parts]))


def batches(train: Batch, size: int, seed: int) -> Iterator[Batch]:
    """Endless shuffled batches of `size`, a pure function of the seed."""
    order = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(train.x), generator=order).split(size):
            if len(rows) == size:
                yield Batch(train.x[rows], train.y[rows], train.key[rows])


def _objective(told: dict[str, Any], training: dict[str, Any]) -> Objective:
    """The cell's objective: by default `LimitedLatent`; `TargetRate` with a target; the relative ones with an offset; another by its class path."""
    shared = {key: training[key] for key in ("scale", "offset") if key in training}
    arguments = {**shared, **{k: v for k, v in told.items() if k != "class_path"}}
    kinds = {
        (False, False): LimitedLatent,
        (True, False): TargetRate,
        (False, True): RelativeLimitedLatent,
        (True, True): RelativeTargetRate,
    }
    kind: type[Objective] = kinds["target_bits" in arguments, "offset" in arguments]
    if "class_path" in told:
        module, _, name = str(told["class_path"]).rpartition(".")
        if not module.startswith("vidssl.objectives."):
            raise UserError(f"an objective is a class of vidssl.objectives; got {told['class_path']!r}")
        kind = getattr(importlib.import_module(module), name)
    known = inspect.signature(kind).parameters
    if unknown := sorted(set(arguments) - set(known)):
        raise UserError(f"{kind.__name__} takes {', '.join(known)}; got {', '.join(unknown)}")
    return kind(**arguments)


def _part(name: str, **arguments: Any) -> Any:
    return build({"class_path": name, "init_args": arguments})


def _sized(told: dict[str, Any], width: int) -> dict[str, Any]:
    """A part's description with the network's width filled in, where it takes one."""
    module, _, name = told["class_path"].rpartition(".")
    takes = inspect.signature(getattr(importlib.import_module(module), name)).parameters if module.startswith("vidssl.") else {}
    return {**told, "init_args": {**({"width": width} if "width" in takes else {}), **told.get("init_args", {})}}


def _whole(node: Any) -> Any:
    if isinstance(node, dict):
        node = {key: _whole(value) for key, value in node.items()}
        return {"init_args": {}, **node} if "class_path" in node else node
    return [_whole(value) for value in node] if isinstance(node, list) else node
