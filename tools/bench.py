"""Measure the speed of decoding, loading, training, sampling, and of the shipped networks."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vidssl import __version__
from vidssl.energy.base import Energy
from vidssl.files import write_json
from vidssl.objectives.base import Objective
from vidssl.progress import bar, meter, table

RECIPE = "bounce-categorical"
GUARDED = ["fork-gaussian", "bounce-gaussian", "bounce-simclr", "video-gaussian"]
Rows = list[dict[str, Any]]


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    return {
        "vidssl": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def from_recipe(name: str) -> tuple[Energy, Objective]:
    """The model of a shipped recipe, untrained, and its objective: a model's speed does not depend on what it learned."""
    import yaml

    from vidssl.house import find_config

    model = yaml.safe_load(find_config(name).read_text("utf-8"))["model"]
    return assembled(model["energy"]), assembled(model["objective"])


def assembled(node: Any) -> Any:
    """Parts of this package as a shipped recipe names them."""
    if isinstance(node, list):
        return [assembled(value) for value in node]
    if not isinstance(node, dict):
        return node
    if "class_path" not in node:
        return {key: assembled(value) for key, value in node.items()}
    module, _, kind = node["class_path"].rpartition(".")
    assert module.startswith("vidssl."), module
    return getattr(import_module(module), kind)(**{key: assembled(value) for key, value in node.get("init_args", {}).items()})


def sample(arguments: argparse.Namespace) -> Rows:
    """N futures of one past beside one."""
    from vidssl.evaluation.bench import bench_sample
    from vidssl.export.load import load_energy

    energy = load_energy(arguments.model, arguments.device) if arguments.model else from_recipe(RECIPE)[0].to(arguments.device)
    return bench_sample(energy)


def decode(arguments: argparse.Namespace) -> Rows:
    """Frames per second from files, per decoder."""
    from vidssl.data.bench import bench_decode

    return bench_decode()


def loader(arguments: argparse.Namespace) -> Rows:
    """Clips per second from a loader, per source."""
    from vidssl.data.bench import bench_loader

    return bench_loader()


def train(arguments: argparse.Namespace) -> Rows:
    """What a training step of each shipped recipe costs, under its own objective; --guards: with and without what keeps runs safe."""
    from vidssl.bench import bench_train
    from vidssl.house import room

    if arguments.guards:
        from vidssl.training.overhead import overhead

        recipes = arguments.recipes or GUARDED
        return [overhead(name, *from_recipe(name), 16, device=arguments.device) for name in bar(recipes, len(recipes), "with and without guards")]
    recipes = arguments.recipes or sorted(path.stem for path in (room("configs") / "recipes").glob("*.yaml"))
    return [row for name in bar(recipes, len(recipes), "training steps") for row in bench_train({name: (*from_recipe(name), 16)})]


def backbones(arguments: argparse.Namespace) -> Rows:
    """The candidates for the default network at equal CPU minutes."""
    from vidssl.bench import bench_backbones

    with meter() as report:
        return bench_backbones(arguments.minutes, arguments.seeds, arguments.networks, arguments.mnist, report)


BENCHES: dict[str, Callable[[argparse.Namespace], Rows]] = {f.__name__: f for f in (decode, loader, train, sample, backbones)}


def main(argv: list[str]) -> None:
    """Run ``vidssl bench NAME``."""
    told = "\n".join(f"  {name:<10} {run.__doc__}" for name, run in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="vidssl bench", description=f"{__doc__}\n\n{told}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", choices=list(BENCHES), help=f"one of {', '.join(BENCHES)}")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the rows and the machine as JSON, too")
    parser.add_argument("--recipes", nargs="+", help="train: which (default: all that are shipped)")
    parser.add_argument("--guards", action="store_true", help="train: what exact order, checkpoints and guards add to a step")
    parser.add_argument("--model", help=f"sample: a model of your own (default: the recipe {RECIPE}, untrained)")
    parser.add_argument("--device", default="cpu", help="sample, train --guards: where the model runs (default: cpu)")
    parser.add_argument("--minutes", type=float, default=8.0, help="backbones: CPU minutes for each (default: 8)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="backbones: seeds for each (default: 0)")
    parser.add_argument("--networks", nargs="+", help="backbones: which (default: all)")
    parser.add_argument("--mnist", metavar="DIR", help="backbones: folder with MNIST (default: scikit-learn's digits)")
    arguments = parser.parse_args(argv)
    rows = BENCHES[arguments.name](arguments)
    table(f"bench {arguments.name}", rows)
    if arguments.output:
        write_json(arguments.output, {"bench": arguments.name, "machine": machine(), "rows": rows})
        print(f"written: {arguments.output}")
