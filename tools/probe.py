"""Ask an encoder's features for labels and numbers, beside a random and a supervised encoder: writes probe.json."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidssl.data.config import load_data, make_data
from vidssl.data.module import ClipData
from vidssl.evaluation.probe import ENCODERS, Settings, probe
from vidssl.export.card import NAME, read_card
from vidssl.export.load import load_encoder, open_model
from vidssl.files import write_json
from vidssl.nets.encoders import Encoder
from vidssl.progress import bar, table
from vidssl.types import UserError


def main(argv: list[str]) -> None:
    """Run ``vidssl probe MODEL --data CONFIG``."""
    usual = Settings()
    parser = argparse.ArgumentParser(prog="vidssl probe", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder with a whole model or an encoder, or a shipped model's name")
    parser.add_argument(
        "--data",
        metavar="CONFIG",
        required=True,
        help="a recipe, or a YAML file with a data section as in one; or a folder of videos that lie in a folder for each class; "
        "data/windows with --folder asks of any videos which one a window is of, and when it begins",
    )
    parser.add_argument("--folder", help="in place of the folder that the data section names")
    parser.add_argument("--labels", metavar="NAME", nargs="+", help="default: all that the data have")
    parser.add_argument("--seeds", metavar="N", type=int, default=usual.seeds, help=f"of training clips, attentive probe, and the other encoders (default {usual.seeds})")
    parser.add_argument("--clips", metavar="N", type=int, default=usual.clips, help=f"training clips at most (default {usual.clips})")
    parser.add_argument("--limit", metavar="N", type=int, default=usual.limit, help=f"validation and test clips at most, each (default {usual.limit})")
    parser.add_argument("--k", type=int, default=usual.k, help=f"nearest neighbours that vote (default {usual.k})")
    parser.add_argument("--temperature", type=float, default=usual.temperature, help=f"of their votes (default {usual.temperature})")
    parser.add_argument("--steps", metavar="N", type=int, default=usual.steps, help=f"of training a supervised encoder for each label (default {usual.steps}); 0: none")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--output", metavar="FILE", type=Path, help="default probe.json: of a run's checkpoint in the run's folder, else here")
    args = parser.parse_args(argv)
    output = args.output or beside(args.model)
    if output.is_dir():
        raise UserError(f"--output is a file; {str(output)!r} is a folder: give a name in it, such as {str(output / 'probe.json')!r}")
    settings = Settings(
        seeds=args.seeds,
        clips=args.clips,
        limit=args.limit,
        k=args.k,
        temperature=args.temperature,
        steps=args.steps or usual.steps,
        encoders=ENCODERS if args.steps else ENCODERS[:2],
    )
    encoder, clip, weights = open_encoder(args.model, args.device)
    data = open_data(args.data, args.folder, clip)
    if data.size != clip["size"]:
        raise UserError(f"model and data must agree on size; the model has {clip['size']}, the data {data.size}")
    found = probe(encoder, data, args.labels, settings, weights, bar)
    write_json(output, found)
    count = found["protocol"]["clips"]["test"]
    table(f"{args.model} on {count} test clips of {args.data}, {settings.seeds} seeds", list(rows(found, settings.encoders)))
    print(f"written: {output}")


def beside(model: str) -> Path:
    """Where the scores of `model` go by default: beside the curves of the run whose checkpoint it is."""
    folder = Path(model).parent
    return (folder.parent if folder.name == "checkpoints" else Path()) / "probe.json"


def open_encoder(model: str, device: str) -> tuple[Encoder, dict[str, Any], str]:
    """The encoder of `model`, how its clips are cut, and the SHA-256 of the file that it was read from."""
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    if path.exists() and path.suffix != ".ckpt" and (folder / NAME).is_file() and read_card(folder)["what"] == "encoder":
        frozen = load_encoder(folder, device)
        given = frozen.card["input"]
        cut = {key: given.get(key) for key in ("stride", "fps")}
        cut |= {"past": frozen.encoder.frames, "future": 1, "channels": frozen.encoder.channels, "size": given["size"]}
        return frozen.encoder, cut, frozen.card["weights"]["sha256"]
    opened = open_model(model, device)
    energy = opened.energy
    encoder = energy.encoder
    if not isinstance(encoder, Encoder):
        raise UserError(f"a probe asks an encoder; {model} is a {type(energy).__name__} without one")
    cut = {key: opened.data.get(key) for key in ("stride", "fps", "hop")}
    cut |= {key: getattr(energy, key) for key in ("past", "future", "channels", "size")}
    return encoder, cut, opened.sha256


def open_data(name: str, folder: str | None, clip: dict[str, Any]) -> ClipData:
    """The data that ``--data`` names; clips of a folder are cut as those that the model was trained on."""
    if not Path(name).is_dir():
        return load_data(name, **({"folder": folder} if folder else {}))
    if folder:
        raise UserError(f"--folder stands in for the folder of a configuration; --data {name!r} is a folder itself: give one of them")
    cut = {key: value for key, value in clip.items() if value is not None}
    return make_data({"class_path": "vidssl.data.module.VideoData", "init_args": {"folder": name, **cut}}, name)


def rows(found: dict[str, Any], encoders: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The table: a row per score, with its mean and its spread over seeds for each encoder; a guess is always the commonest class."""
    for label, scores in found["labels"].items():
        for kind in ("knn", "linear", "attentive"):
            yield {"score": f"{label}, {kind}", **{who: _show(scores[who][kind]) for who in encoders}, "guess": f"{scores['commonest']:.3f}"}
    for part, told in (("regression", "R^2 of {}"), ("features", "features, {}")):
        for name in found[part]["model"]:
            yield {"score": told.format(name), **{who: _show(found[part][who].get(name)) for who in encoders}, "guess": ""}


def _show(score: dict[str, Any] | None) -> str:
    """Mean and spread."""
    if score is None:
        return ""
    return f"{score['mean']:.3f}" + (f"±{score['spread']:.3f}" if len(score["values"]) > 1 else "")
