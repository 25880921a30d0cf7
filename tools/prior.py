"""Fit a prior to the codes of a trained model: for limiters that learn none, or to compare them under the same one."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from vidssl.data.config import load_data
from vidssl.energy.predictive import PixelEnergy
from vidssl.export.card import WEIGHTS
from vidssl.export.load import open_model
from vidssl.export.write import export, refuse_foreign
from vidssl.latents.priors.bank import BankPrior
from vidssl.latents.probed import Probed
from vidssl.progress import bar, meter
from vidssl.training.prior import fit_prior, gather, probe_for
from vidssl.types import Batch, UserError

KINDS = {
    "probe": "learned given the past: symbol by symbol for discrete codes, a mixture of 32 Gaussians for real ones",
    "nearest": "the codes of the 32 training clips whose pasts are most alike",
    "bank": "the code of any training clip, whatever the past",
}


def main(argv: list[str]) -> None:
    """Run ``vidssl prior MODEL --data CONFIG``."""
    told = "; ".join(f"{name}: {what}" for name, what in KINDS.items())
    parser = argparse.ArgumentParser(prog="vidssl prior", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint or an exported folder with a whole model")
    parser.add_argument("--data", metavar="CONFIG", required=True, help="a recipe, or a YAML file with a data section: what the model was trained on")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="the folder to write the whole model to, with its new prior")
    parser.add_argument("--kind", choices=list(KINDS), default="probe", help=f"{told} (default: probe)")
    parser.add_argument("--clips", type=int, default=4096, help="training clips to gather codes from (default: 4096)")
    parser.add_argument("--steps", type=int, default=2000, help="of fitting a probe (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the codes, the weights and their order (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    args = parser.parse_args(argv)
    for name, count in (("clips", args.clips), ("steps", args.steps)):
        if count < 1:
            raise UserError(f"a prior is fitted with at least one of {name}; got --{name} {count}")
    refuse_foreign(args.output)
    opened = open_model(args.model, args.device)
    energy = opened.energy
    if not isinstance(energy, PixelEnergy):
        raise UserError(f"a prior is fitted to a model with a latent; {args.model} is a {type(energy).__name__}")
    latent = energy.latent.base if isinstance(energy.latent, Probed) else energy.latent
    energy = energy.with_latent(latent)
    clips = load_data(args.data).clips("train")
    rows = torch.arange(min(args.clips, len(clips))).split(64)
    batches = (clips.batch(0, part.tolist()) for part in bar(rows, len(rows), "gathering codes"))
    torch.manual_seed(args.seed)
    prior = probe_for(latent, energy.encoder.width) if args.kind == "probe" else None  # refuses a model without a code
    codes = gather(energy, (Batch(b.x, b.y, b.key) for b in batches), args.seed)
    if prior is None:
        prior = BankPrior(energy.encoder.width, latent.units, nearest=32 if args.kind == "nearest" else 0)
    with meter() as report:
        bits = fit_prior(prior, codes, args.steps, seed=args.seed, report=lambda share: report("fitting", share))
    fitted = energy.with_latent(Probed(latent, prior)).eval()
    export(replace(opened, energy=fitted, record={**opened.record, "prior": {"kind": args.kind, "clips": len(codes.context), "seed": args.seed}}), args.output, "model")
    if args.kind == "probe":
        print(f"{bits:.3f} bits a clip on clips held out" + ("" if latent.alphabet or latent.cell else " (a density's, for real codes: compare, do not read)"))
    print(f"written: {args.output / WEIGHTS['model']}; draw from it: vidssl sample {args.output} --input ...")
