"""Score a model on test clips: writes metrics.json."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vidssl.data.config import load_data
from vidssl.evaluation.evaluate import evaluate
from vidssl.export.load import open_model
from vidssl.files import write_json
from vidssl.progress import bar, table


def rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per score, beside its ideal where that is known."""
    ideal = metrics.get("ideal", {})
    made = []
    for key, value in metrics.items():
        if key in ("protocol", "ideal", "free_energy", "paired_accuracy", "mean_of_N"):
            continue
        if key == "best_of_N":
            for n, best in value.items():
                for score in ("psnr", "ssim"):
                    truth = ideal.get("best_of_N", {}).get(n, {}).get(score, "")
                    mean = metrics["mean_of_N"][n][score]
                    made.append({"score": f"{score}, best of {n} (mean)", "model": f"{best[score]:.4g} ({mean:.4g})", "ideal": truth})
        elif isinstance(value, dict):
            made += [{"score": f"{key} {k}", "model": v, "ideal": ideal.get(key, {}).get(k, "")} for k, v in value.items()]
        else:
            made.append({"score": key, "model": value, "ideal": ideal.get(key, "")})
    return made


def main(argv: list[str]) -> None:
    """Run ``vidssl evaluate MODEL --data CONFIG``."""
    parser = argparse.ArgumentParser(prog="vidssl evaluate", description=__doc__)
    parser.add_argument("model", help="a checkpoint or an exported folder with a whole model")
    parser.add_argument("--data", required=True, help="a recipe or YAML file with a data section")
    parser.add_argument("--folder", help="in place of the folder that the data section names")
    parser.add_argument("--futures", type=int, default=16, help="futures of each past (default 16)")
    parser.add_argument("--draws", type=int, default=1024, help="futures of each past for frequencies in worlds (default 1024)")
    parser.add_argument("--pasts", type=int, default=24, help="pasts that frequencies are measured on (default 24)")
    parser.add_argument("--limit", type=int, default=256, help="test clips at most (default 256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", default="metrics.json")
    args = parser.parse_args(argv)
    opened = open_model(args.model, args.device)
    data = load_data(args.data, **({"folder": args.folder} if args.folder else {}))
    metrics = evaluate(
        opened.energy, data, args.futures, args.draws, args.pasts, args.limit, args.seed, args.device, opened.sha256, bar
    )
    write_json(Path(args.output), metrics)
    table(f"{args.model} on {args.data}", rows(metrics))
    print(f"written: {args.output}")
