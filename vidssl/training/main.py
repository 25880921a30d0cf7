"""`vidssl fit`: LightningCLI with the house's defaults and the house's manners.

The constructors are the schema: a misspelt key is refused, a slot takes any subclass by `class_path`.
A configuration is code, so class paths in files may only name this package, torch, torchvision and lightning,
unless the user allows more on the command line.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from vidssl.house import find_config
from vidssl.training.checkpoints import AtomicCheckpointIO, newest
from vidssl.training.guard import NonFiniteGuard
from vidssl.training.preempt import SaveOnSignal
from vidssl.training.task import PredictionTask
from vidssl.training.watch import Watch
from vidssl.types import UserError

ALLOWED = ("vidssl.", "torch.", "torchvision.", "lightning.")


class FitCLI(LightningCLI):
    """LightningCLI whose trainer comes with the house's callbacks, logger and checkpoints."""

    def __init__(self, logger: TensorBoardLogger, folder: Path, **kwargs: Any) -> None:
        self.house = {
            "logger": logger,
            "plugins": [AtomicCheckpointIO()],
            "use_distributed_sampler": False,  # the data module deals the clips out itself
            "log_every_n_steps": 10,
            "enable_model_summary": False,
        }
        self.watchers = [
            ModelCheckpoint(
                folder / "checkpoints",
                filename="{step}",
                monitor="step",
                mode="max",
                save_top_k=2,
                save_last=True,
                every_n_train_steps=500,
                enable_version_counter=False,
            ),
            EMAWeightAveraging(decay=0.998),
            NonFiniteGuard(),
            SaveOnSignal(),
            Watch(),
            LearningRateMonitor("step"),
            RichProgressBar(),
        ]
        super().__init__(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Nothing is linked: linked values are missing from what a checkpoint remembers."""
        parser.set_defaults({"seed_everything": 0})

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer of the configuration with the house's parts, and the configuration's callbacks besides."""
        asked = self.config_init["trainer"].get("callbacks") or []
        return super().instantiate_trainer(**self.house, callbacks=[*self.watchers, *asked], **kwargs)


def check_classes(config: Path, allowed: tuple[str, ...]) -> None:
    """Refuse a file that names classes from elsewhere, before anything of it is imported.

    Raises:
        UserError: a class path outside `allowed`, or a file that is no YAML.
    """
    try:
        tree = yaml.safe_load(config.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{config} is no YAML: {error}") from error

    def walk(node: Any) -> None:
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
            walk(value)
        name = node.get("class_path") if isinstance(node, dict) else None
        if isinstance(name, str) and "." in name and not name.startswith(allowed):
            raise UserError(
                f"a configuration names classes of {', '.join(a.rstrip('.') for a in allowed)}; {config} names {name!r}: "
                f"if you trust it, add --allow_class_path {name.split('.')[0]}"
            )

    walk(tree)


def own_arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Take our own options from the line; the rest is LightningCLI's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    parser.add_argument("--run", default=None)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--ckpt_path", default=None)
    parser.add_argument("--allow_class_path", action="append", default=[])
    return parser.parse_known_args(argv)


HELP = """usage: vidssl fit --config RECIPE [--config MORE.yaml ...] [options] [--KEY VALUE ...]

Train a model. RECIPE is a YAML file or a shipped recipe's name; later files change what earlier ones say.

  --run NAME             name of the run (default: the first recipe's name)
  --runs DIR             where runs are written (default: runs)
  --ckpt_path last|FILE  go on from the run's newest whole checkpoint, or from FILE
  --allow_class_path P   let configurations name classes of package P
  --print_config         print the whole configuration with every default, and stop
  --KEY VALUE            any key of the configuration, e.g. --trainer.max_steps 2000 --data.batch_size 32

Writes DIR/NAME/version_K/: checkpoints, TensorBoard logs with rendered futures, config.yaml.
Shipped recipes: {recipes}"""


def fit(argv: list[str]) -> Path:
    """Train as the command line says.

    Returns:
        The run's folder.

    Raises:
        UserError: whatever in the configuration, the data or the checkpoint a user can mend.
    """
    if "-h" in argv or "--help" in argv:
        names = sorted(p.stem for p in find_config("recipes/fork-categorical").parent.glob("*.yaml"))
        print(HELP.format(recipes=", ".join(names)))
        return Path()
    own, rest = own_arguments(argv)
    if not own.config:
        raise UserError("vidssl fit needs --config RECIPE: a YAML file or a shipped recipe's name (vidssl fit --help lists them)")
    configs = [find_config(name) for name in own.config]
    for config in configs:
        check_classes(config, (*ALLOWED, *(f"{p}." for p in own.allow_class_path)))
    name = own.run or configs[0].stem
    root = Path(own.runs) / name
    checkpoint = newest(root) if own.ckpt_path == "last" else Path(own.ckpt_path) if own.ckpt_path else None
    version = None
    if checkpoint is not None and root in checkpoint.parents:
        version = checkpoint.relative_to(root).parts[0]  # a run that goes on goes on in its folder
    logger = TensorBoardLogger(own.runs, name, version=version, default_hp_metric=False)
    folder = Path(logger.log_dir)
    cli = _cli([part for config in configs for part in ("--config", str(config))] + rest, logger, folder)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint and str(checkpoint))
    print(f"run: {folder}   model: {cli.trainer.checkpoint_callback.last_model_path}   look: tensorboard --logdir {own.runs}")
    return folder


def _cli(line: list[str], logger: TensorBoardLogger, folder: Path) -> FitCLI:
    try:
        return FitCLI(
            logger,
            folder,
            model_class=PredictionTask,
            datamodule_class=LightningDataModule,
            subclass_mode_data=True,
            run=False,
            args=line,
            parser_kwargs={"exit_on_error": False},
            save_config_kwargs={"overwrite": True},
        )
    except (argparse.ArgumentError, argparse.ArgumentTypeError, TypeError) as error:
        raise UserError(f"the configuration does not fit: {_short(str(error))}") from error


def _short(message: str) -> str:
    """The part of jsonargparse's message that names the key: it quotes whole trees around it."""
    clean = " ".join(message.split())
    found = re.findall(r"[^.;:]*(?:[Kk]ey|[Oo]ption|[Gg]roup|[Uu]nrecognized|does not accept|not accepted|[Nn]ot a |[Ee]xpected|[Ii]nvalid)[^;]{0,300}", clean)
    return (found[0] if found and len(clean) > 400 else clean)[:500].strip()
