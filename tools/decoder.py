"""Fit a read-only decoder to a trained model of embeddings, so that its futures can be looked at and scored."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from vidssl.data.config import load_data
from vidssl.data.dataset import ClipDataset
from vidssl.energy.embedding import Embedded
from vidssl.energy.rendered import Rendered
from vidssl.export.card import WEIGHTS
from vidssl.export.load import open_model
from vidssl.export.write import export, refuse_foreign
from vidssl.nets.decoders import CopyDecoder, Decoder, FetchDecoder, PaintDecoder
from vidssl.progress import meter
from vidssl.training.render import fit_decoder
from vidssl.types import Batch, UserError

KINDS: dict[str, type[Decoder]] = {"copy": CopyDecoder, "paint": PaintDecoder, "fetch": FetchDecoder}


def batches(clips: ClipDataset, size: int, steps: int, seed: int) -> Iterator[Batch]:
    """`steps` batches of `size` clips, drawn without regard to epochs, a pure function of the seed."""
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        found = clips.batch(step, torch.randint(len(clips), (size,), generator=order).tolist())
        yield Batch(found.x, found.y, found.key)


def main(argv: list[str]) -> None:
    """Run ``vidssl decoder MODEL --data CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl decoder", description=f"{__doc__} The model itself stays as it is, bit by bit.")
    parser.add_argument("model", metavar="MODEL", help="a checkpoint or an exported folder with a whole model that predicts embeddings")
    parser.add_argument("--data", metavar="CONFIG", required=True, help="a recipe, or a YAML file with a data section: what the model was trained on")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="the folder to write the whole model to, with its decoder")
    parser.add_argument("--kind", choices=list(KINDS), default="copy", help="copies the last frame and paints the rest (copy), paints all (paint), or fetches pixels, for real video (fetch); default copy")
    parser.add_argument("--steps", type=int, default=800, help="of fitting (default: 800)")
    parser.add_argument("--batch", type=int, default=32, help="clips a step (default: 32)")
    parser.add_argument("--lr", type=float, default=3e-3, help="learning rate (default: 0.003)")
    parser.add_argument("--frame_width", type=int, default=32, help="the decoder's features of each frame (default: 32)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the clips (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    args = parser.parse_args(argv)
    for name, count in (("steps", args.steps), ("batch", args.batch), ("frame_width", args.frame_width)):
        if count < 1:
            raise UserError(f"a decoder is fitted with at least 1 of {name}; got --{name} {count}")
    refuse_foreign(args.output)
    opened = open_model(args.model, args.device)
    inner = opened.energy.inner if isinstance(opened.energy, Rendered) else opened.energy
    if not isinstance(inner, Embedded):
        raise UserError(f"a decoder is fitted to a model that predicts embeddings; {args.model} is a {type(inner).__name__}")
    data = load_data(args.data)
    for name in ("past", "future", "channels", "size"):
        if getattr(data, name) != getattr(inner, name):
            raise UserError(f"model and data must agree on {name}; the model has {getattr(inner, name)}, the data {getattr(data, name)}")
    torch.manual_seed(args.seed)
    shape = {"frames": inner.future, "channels": inner.channels, "width": inner.encoder.width, "patch": inner.encoder.patch}
    rendered = Rendered(inner, KINDS[args.kind](**shape, frame_width=args.frame_width)).to(args.device)
    with meter() as report:
        order = batches(data.clips("train"), args.batch, args.steps, args.seed)
        loss = fit_decoder(rendered, order, args.steps, args.lr, args.seed, lambda share: report("fitting the decoder", share))
    record = {**opened.record, "decoder": {"kind": args.kind, "steps": args.steps, "batch": args.batch, "seed": args.seed, "squared_error": loss}}
    export(replace(opened, energy=rendered.eval(), record=record), args.output, "model")
    print(f"squared error {loss:.3g} a clip, half from true and half from predicted embeddings, over the last tenth of the steps")
    print(f"written: {args.output / WEIGHTS['model']}; look: vidssl sample {args.output} --input ...; score: vidssl evaluate {args.output} --data {args.data}")
