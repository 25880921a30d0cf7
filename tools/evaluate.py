"""Score a model on test clips: writes metrics.json."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidssl.data.config import load_data, make_data
from vidssl.data.module import ClipData
from vidssl.evaluation.evaluate import evaluate
from vidssl.export.card import Opened
from vidssl.export.load import open_model
from vidssl.files import write_json
from vidssl.progress import bar, table
from vidssl.types import UserError

IN_THE_FILE_ONLY = ("protocol", "ideal", "horizon", "frequencies", "free_energy", "paired_accuracy", "auroc_clips", "mean_of_N", "copy_last", "mean_future")


def main(argv: list[str]) -> None:
    """Run ``vidssl evaluate MODEL --data CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl evaluate", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, an exported folder with a whole model, or a shipped model's name")
    parser.add_argument(
        "--data",
        metavar="CONFIG",
        required=True,
        help="a recipe, or a YAML file with a data section as in one; or a folder of videos: those are scored that training on it holds out",
    )
    parser.add_argument("--folder", help="in place of the folder that the data section names")
    parser.add_argument("--futures", metavar="N", type=int, default=16, help="futures of each past (default 16)")
    parser.add_argument("--draws", metavar="N", type=int, default=2048, help="futures of each past for frequencies in worlds (default 2048)")
    parser.add_argument("--pasts", metavar="N", type=int, default=24, help="pasts that frequencies are measured on (default 24)")
    parser.add_argument("--limit", metavar="CLIPS", type=int, default=256, help="test clips at most, evenly spread (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="of the futures drawn (default 0)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--output", metavar="FILE", type=Path, help="default metrics.json: of a run's checkpoint in the run's folder, else here")
    args = parser.parse_args(argv)
    output = args.output or beside(args.model)
    if output.is_dir():
        raise UserError(f"--output is a file; {str(output)!r} is a folder: give a name in it, such as {str(output / 'metrics.json')!r}")
    opened = open_model(args.model, args.device)
    data = open_data(args.data, args.folder, opened)
    metrics = evaluate(
        opened.energy,
        data,
        futures=args.futures,
        draws=args.draws,
        pasts=args.pasts,
        limit=args.limit,
        seed=args.seed,
        device=args.device,
        weights=opened.sha256,
        progress=bar,
    )
    write_json(output, metrics)
    table(f"{args.model} on {metrics['protocol']['clips']} test clips of {args.data}", list(rows(metrics)))
    print(f"written: {output}")


def beside(model: str) -> Path:
    """Where the scores of `model` go by default: beside the curves of the run whose checkpoint it is, where the report finds both."""
    folder = Path(model).parent
    return (folder.parent if folder.name == "checkpoints" else Path()) / "metrics.json"


def open_data(name: str, folder: str | None, opened: Opened) -> ClipData:
    """The data that ``--data`` names; clips of a folder are cut as those that the model was trained on."""
    if not Path(name).is_dir():
        return load_data(name, **({"folder": folder} if folder else {}))
    if folder:
        raise UserError(f"--folder stands in for the folder of a configuration; --data {name!r} is a folder itself: give one of them")
    energy = opened.energy
    shape = {key: getattr(energy, key) for key in ("past", "future", "size", "channels")}
    cut = {key: opened.data[key] for key in ("stride", "fps", "hop") if opened.data.get(key) is not None}
    return make_data({"class_path": "vidssl.data.module.VideoData", "init_args": {"folder": name, **shape, **cut}}, name)


def rows(metrics: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The table: a row per score, beside its ideal where that is known and its floor, copying the last frame."""
    ideal, floor = metrics.get("ideal", {}), metrics["copy_last"]

    def row(score: str, model: Any, best: Any = None, least: Any = None) -> dict[str, str]:
        return dict(zip(("score", "model", "ideal", "copying"), (score, _show(model), _show(best), _show(least)), strict=True))

    for n, best in metrics["best_of_N"].items():
        truth, mean = ideal.get("best_of_N", {}).get(n, {}), metrics["mean_of_N"][n]
        for key in ("psnr", "ssim", "squared_error"):
            yield row(f"{key}, best of {n}", best[key], truth.get(key), floor[key])
    for key in ("psnr", "ssim", "squared_error"):
        yield row(f"{key}, mean of {n}", mean[key], ideal.get("mean_of_N", {}).get(n, {}).get(key), floor[key])
    for key, value in metrics.items():
        if isinstance(value, dict) and key not in (*IN_THE_FILE_ONLY, "best_of_N"):
            yield from (row(f"{key}, {kind}", v, ideal.get(key, {}).get(kind)) for kind, v in value.items())
        elif not isinstance(value, dict) and key not in ("psnr", "ssim", "squared_error"):
            yield row(key, value, ideal.get(key))


def _show(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, (bool, str, int)) else f"{value:.4g}"
