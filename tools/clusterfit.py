"""Cluster a model's features and train a new network, from scratch, to tell the clusters: often the better encoder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from vidssl import __version__
from vidssl.data.config import load_data
from vidssl.data.dataset import ClipDataset
from vidssl.data.module import ClipData
from vidssl.data.transforms import Augment
from vidssl.energy.base import Energy
from vidssl.export.card import WEIGHTS
from vidssl.export.load import open_model
from vidssl.export.write import export, refuse_foreign
from vidssl.nets.kmeans import enough, kmeans, nearest, plus_plus
from vidssl.progress import bar, meter, table
from vidssl.training.budget import train_steps
from vidssl.training.clusterfit import ClusterLabels, endless, guessed, pooled, student
from vidssl.types import Batch, UserError

ROWS = 64


def main(argv: list[str]) -> None:
    """Run ``vidssl clusterfit MODEL --data CONFIG --output DIR``."""
    parser = argparse.ArgumentParser(prog="vidssl clusterfit", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder with a whole model, or a shipped model's name")
    parser.add_argument("--data", metavar="CONFIG", required=True, help="a recipe, or a YAML file with a data section as in one")
    parser.add_argument("--folder", help="in place of the folder that the data section names")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="the folder to write the new model to")
    parser.add_argument("--clusters", metavar="K", type=int, default=64, help="of the training clips (default: 64)")
    parser.add_argument("--steps", metavar="N", type=int, default=1000, help="of training the new network (default: 1000)")
    parser.add_argument("--lr", type=float, default=1e-3, help="the highest learning rate (default: 0.001)")
    parser.add_argument("--crop", type=float, default=0.7, help="smallest side of the crops it learns from, as a share; 1 for whole frames (default: 0.7)")
    parser.add_argument("--jitter", type=float, default=0.3, help="largest change of their brightness and contrast, as a share (default: 0.3)")
    parser.add_argument("--seed", type=int, default=0, help="of the clusters, the weights and the order of clips (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.lr <= 0:
        raise UserError(f"a network is trained for at least 1 step at a learning rate above 0; got --steps {args.steps} --lr {args.lr:g}")
    augment = Augment(crop=args.crop, flip=0, brightness=args.jitter, contrast=args.jitter)
    refuse_foreign(args.output)
    opened = open_model(args.model, args.device)
    data = load_data(args.data, **({"folder": args.folder} if args.folder else {}))
    agree(opened.energy, data)
    train, held = data.clips("train"), data.clips("val")
    enough(len(train), args.clusters)
    if not len(held):
        raise UserError(f"agreement is measured on clips held out; {args.data} holds out none: raise val_clips")
    features, keys = pooled(opened.energy, whole(train, "features of training clips"))
    noise = torch.Generator(features.device).manual_seed(args.seed)
    found = kmeans(features, plus_plus(features, args.clusters, noise), generator=noise)
    labels = torch.zeros(len(train), dtype=torch.long, device=features.device)
    labels[keys] = found.assignments
    torch.manual_seed(args.seed)
    fresh = student(opened.energy, args.clusters).to(args.device)
    batches = endless(train, data.batch_size, data.seed)
    with meter() as report:
        spent = train_steps(args.steps, fresh, ClusterLabels(labels, augment), batches, args.lr, seed=args.seed, report=lambda share: report("training", share))
    rows = []
    for name, clips in (("training", train), ("held out", held)):
        truth = found.assignments if clips is train else nearest(pooled(opened.energy, whole(clips, "features of clips held out"))[0], found.centroids)
        hits = (guessed(spent.energy, whole(clips, f"agreement, {name}")) == truth).float().mean()
        largest = torch.bincount(truth).max() / len(truth)
        rows.append({"clips": name, "number": len(truth), "agreement": float(hits), "largest cluster": float(largest)})
    record = {
        "vidssl": __version__,
        "torch": str(torch.__version__),
        "objective": "ClusterFit",
        "steps": args.steps,
        "seed": args.seed,
        "clusters": args.clusters,
        "teacher": opened.sha256,
        "agreement": {row["clips"]: row["agreement"] for row in rows},
    }
    export(replace(opened, energy=spent.energy, data=data.protocol(), record=record), args.output, "model")
    table(f"a new network on {args.clusters} clusters of {args.model}", rows)
    print(f"written: {args.output / WEIGHTS['model']}; its encoder alone: vidssl export {args.output} --output ...")


def agree(energy: Energy, data: ClipData) -> None:
    """Refuse data that the model was not made for.

    Raises:
        UserError: naming what differs and both numbers.
    """
    for name in ("past", "future", "channels", "size"):
        if getattr(data, name) != getattr(energy, name):
            raise UserError(f"model and data must agree on {name}; the model has {getattr(energy, name)}, the data {getattr(data, name)}: give the data it was trained on")


def whole(clips: ClipDataset, what: str) -> Iterator[Batch]:
    """All clips in order, with a bar."""
    rows = torch.arange(len(clips)).split(ROWS)
    for part in bar(rows, len(rows), what):
        yield clips.batch(0, part.tolist())
