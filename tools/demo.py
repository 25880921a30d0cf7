"""The main job, small: video files in, many futures out, numbers beside the truth, an encoder to take away."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
import yaml

from vidssl.data.config import make_data
from vidssl.data.prepare import prepare
from vidssl.data.worlds.files import read, write
from vidssl.data.worlds.fork import Fork
from vidssl.evaluation.evaluate import evaluate
from vidssl.evaluation.report import write_report
from vidssl.export.load import open_model
from vidssl.export.write import export
from vidssl.files import write_json
from vidssl.progress import bar, table
from vidssl.render import Scene, write_futures, write_scene
from vidssl.training.main import fit
from vidssl.types import to_uint8

MODELS = {
    "vq": ("VQ, 32 codes", "Draws one of 32 codes for what cannot be known, and pays for it in bits."),
    "deterministic": ("deterministic", "Has no latent: with four possible futures its best answer is their mean, a blur."),
}
EPISODES, PER_VIDEO, SHOWN, FUTURES = 4096, 32, 4, 7
INTRO = (
    "A square moves straight and then takes one of four directions, with probabilities 1/2, 1/4, 1/8 and 1/8 that depend on "
    "its side of the picture. {videos} mp4 files were written, and the models saw nothing but what was decoded from them. Since the "
    "world is known, every score stands beside what a perfect model gets."
)


def data_section(shards: Path, seed: int) -> dict:
    """The data section of a configuration for the decoded videos."""
    world = {"past": 4, "future": 6, "size": 32, "channels": 1}
    return {"class_path": "vidssl.data.module.VideoData", "init_args": {"folder": str(shards), **world, "batch_size": 64, "seed": seed}}


def main(argv: list[str]) -> None:
    """Run ``vidssl demo``."""
    parser = argparse.ArgumentParser(prog="vidssl demo", description=__doc__)
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("runs/demo"), help="default runs/demo; what an earlier demo left is replaced")
    parser.add_argument("--seed", type=int, default=0, help="of the videos, the weights and the draws")
    parser.add_argument("--steps", type=int, help="training steps (default: the recipes')")
    args = parser.parse_args(argv)
    begin, out = time.monotonic(), args.output
    if (out / "videos").is_dir() and read(out / "videos") is not None:
        shutil.rmtree(out)
    print(f"1/5  writing {EPISODES} episodes of the world 'fork' as mp4 files, and decoding them")
    write(Fork(), out / "videos", EPISODES, PER_VIDEO, args.seed, bar)
    counts = prepare(out / "videos", out / "shards", size=32, channels=1, progress=bar)
    print(f"     {counts.frames} frames decoded from {counts.written} files, {counts.refused} refused")
    section = data_section(out / "shards", args.seed)
    config = out / "data.yaml"
    config.write_text("# The demo's data: real mp4 files of a world whose futures are known.\n" + yaml.safe_dump({"data": section, "seed_everything": args.seed}))
    data = make_data(section, str(config))
    rows, runs = [], []
    for number, (name, (title, about)) in enumerate(MODELS.items(), start=2):
        print(f"{number}/5  training {title} on them")
        steps = ["--trainer.max_steps", str(args.steps)] if args.steps else []
        started = time.monotonic()
        folder = fit(["--config", f"fork-{name}", "--config", str(config), "--runs", str(out / "training"), *steps])
        minutes = (time.monotonic() - started) / 60
        model = open_model(folder / "checkpoints" / "last.ckpt")
        run = out / name
        metrics = evaluate(model.energy, data, seed=args.seed, weights=model.sha256, progress=bar)
        metrics |= {"title": title, "about": about, "training_minutes": minutes}
        write_json(run / "metrics.json", metrics)
        shutil.copyfile(folder / "curves.csv", run / "curves.csv")
        batch = next(iter(data.test_dataloader())).unit()
        futures = to_uint8(model.energy.sample(batch.x[:SHOWN], FUTURES, torch.Generator().manual_seed(args.seed)))
        x, y = to_uint8(batch.x), to_uint8(batch.y)
        scenes = [Scene(f"futures-{i + 1}", x[i].numpy(), futures[:, i].numpy(), y[i].numpy()) for i in range(SHOWN)]
        for scene in scenes:
            write_scene(run, scene)
        write_futures(run / "futures.npz", scenes, args.seed)
        export(model, run / "encoder")
        rows.append(_row(title, metrics, f"{minutes:.1f}"))
        runs.append(run)
    print("4/5  drawing the report")
    page = write_report(runs, out, title="One past, four futures", intro=INTRO.format(videos=EPISODES // PER_VIDEO))
    ideal = json.loads((runs[0] / "metrics.json").read_text())["ideal"]
    rows.append(_row("the truth", ideal, ""))
    table("fork, scored against the truth", rows)
    print(f"5/5  done in {(time.monotonic() - begin) / 60:.1f} minutes")
    print(f"     look:     {page}")
    print(f"     take away: {runs[0] / 'encoder'}")


def _row(name: str, metrics: dict, minutes: str) -> dict:
    """A line of the closing table; the names fit 80 columns."""
    return {
        "model": name,
        "TV": metrics["total_variation"],
        "bits": metrics.get("rate_bits", 0.0),
        "I(z;y|x)": metrics.get("information_bits", 0.0),
        "recall": metrics["mode_recall"],
        "blur AUROC": metrics["auroc"]["blurred"],
        "min": minutes,
    }
