"""`vidssl fit`: LightningCLI with the house's defaults and the house's manners.

The constructors are the schema: a misspelt key is refused, a slot takes any subclass by `class_path`.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from vidssl.data.module import ClipData
from vidssl.data.named import only
from vidssl.house import find_config, room
from vidssl.training.allow import ALLOWED, check_file, check_tree
from vidssl.training.bar import Bar
from vidssl.training.chatter import quiet
from vidssl.training.checkpoints import LAST, AtomicCheckpointIO, found, newest, verify
from vidssl.training.collapse import CollapseWatch
from vidssl.training.complaint import complaint, refusal
from vidssl.training.curves import Curves
from vidssl.training.ema import EMA
from vidssl.training.guard import NonFiniteGuard
from vidssl.training.keep import Keep
from vidssl.training.launch import Launcher, Loading, told, told_end
from vidssl.training.online_probe import OnlineProbe
from vidssl.training.preempt import SaveOnSignal
from vidssl.training.recluster import Recluster
from vidssl.training.task import PredictionTask
from vidssl.training.watch import Watch
from vidssl.types import UserError

DEFAULTS = {
    "use_distributed_sampler": False,  # the data module deals the clips out itself
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
UNREADABLE = "unreadable.jsonl"
"""In a run's folder: the clips that could not be read."""

HELP = """usage: vidssl fit --config RECIPE [--config MORE.yaml ...] [options] [--KEY VALUE ...]

Train a model. RECIPE is a YAML file or a shipped recipe's name; later files change what earlier ones say.

  --run NAME             name of the run (default: the first recipe's name)
  --runs DIR             where runs are written (default: runs)
  --ckpt_path last|FILE  go on from the run's newest whole checkpoint, or from FILE in a new version of the run
  --ckpt_path auto       like last, but begin where there is none yet: for runs that are started again by themselves
  --allow_class_path P   let configurations name classes of package P
  --print_config         print the whole configuration with every default, and stop
  --KEY VALUE            any key of the configuration, e.g. --trainer.max_steps 2000 --data.batch_size 32
                         --checkpoint_every 100 --ema.decay 0.999 --watch.clips 8 --trainer.precision bf16-mixed
                         --trainer.devices 2 --timeout 300 --data.folder s3://bucket/SHARDS
                         --trainer.strategy sharded    weights shared out among devices, for models too large for one

Writes DIR/NAME/version_K/: checkpoints, TensorBoard logs with rendered futures, curves.csv, config.yaml. Told to stop by
SIGTERM or SIGUSR1, it saves a checkpoint and exits with status 143. Under torchrun or srun it is one of the
processes of a run, on one machine or on several.

Shipped recipes: {recipes}"""


class FitCLI(LightningCLI):
    """LightningCLI whose trainer comes with the house's callbacks, logger and checkpoints.

    Args:
        logger: used unless the configuration asks for another, or none.
        allowed: packages whose classes the configuration may name.
    """

    def __init__(self, logger: TensorBoardLogger, allowed: tuple[str, ...], args: list[str]) -> None:
        self.house_logger, self.allowed = logger, allowed
        self.own = {part.partition("=")[2] if part.startswith("--") else part for part in args if "://" in part}
        super().__init__(
            PredictionTask,
            ClipData,
            subclass_mode_data=True,
            run=False,
            args=args,
            seed_everything_default=0,
            trainer_defaults=DEFAULTS,
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The callbacks that every run has. Nothing is linked: linked values are missing from saved configurations."""
        parser.add_argument("--checkpoint_every", type=int, default=500, help="steps between checkpoints")
        parser.add_argument("--timeout", type=float, default=600.0, help="seconds without a word from a process, after which the run ends")
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_lightning_class_args(Watch, "watch")
        parser.add_lightning_class_args(CollapseWatch, "collapse")
        parser.add_lightning_class_args(OnlineProbe, "online_probe")
        parser.add_lightning_class_args(NonFiniteGuard, "guard")

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Say what is wrong with a configuration in one line.

        Raises:
            UserError: naming the key.
        """
        try:
            super().parse_arguments(parser, args)
        except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
            raise UserError(f"the configuration does not fit: {complaint(str(error))}") from error

    def before_instantiate_classes(self) -> None:
        """Look at what the configuration names before anything is made."""
        check_tree(self.config.as_dict(), self.allowed, "this one", self.own)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The configuration's trainer with the house's parts where the configuration does not ask for its own."""
        asked = self.config_init["trainer"]
        folder = Path(self.house_logger.log_dir)
        logger = self.house_logger if asked.get("logger") in (None, True) else asked["logger"]
        loggers = [*(logger if isinstance(logger, list) else [logger]), Curves(folder)] if logger else False
        timeout = self.config_init["timeout"]
        callbacks: list[Callback] = [SaveOnSignal(timeout), Recluster(), *(asked.get("callbacks") or [])]
        dry = bool(asked.get("fast_dev_run"))
        if asked.get("enable_checkpointing") is not False and not dry:
            callbacks.append(Keep(folder / "checkpoints", self.config_init["checkpoint_every"]))
        if asked.get("enable_progress_bar") is not False:
            callbacks.append(Bar())
        if logger and not dry:
            callbacks.append(LearningRateMonitor("step"))
        try:
            trainer = super().instantiate_trainer(
                logger=loggers,
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO(), *(asked.get("plugins") or [])],
                default_root_dir=asked.get("default_root_dir") or folder,
                **told(),
                **kwargs,
            )
        except ValueError as error:
            raise UserError(f"the trainer cannot be made so: {error}") from error
        if trainer.precision not in PRECISIONS:
            raise UserError(f"clips and weights are float32, so trainer.precision is one of {', '.join(PRECISIONS)}; got {trainer.precision}: take bf16-mixed to save memory")
        # how many processes "auto" means is known only now, so what several need is told to the strategy that was chosen
        if isinstance(trainer.strategy, DDPStrategy):  # a critic at rest has no gradient, nor has an encoder that no search asks
            trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
        if isinstance(trainer.strategy, DDPStrategy | ModelParallelStrategy):
            trainer.strategy._timeout = timedelta(seconds=timeout)
        if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
            trainer.strategy._launcher = Launcher(timeout, trainer.strategy.cluster_environment, trainer.strategy.num_processes, trainer.num_nodes)
        return trainer

    def instantiate_classes(self) -> None:
        """Make everything; data wait for a batch as long as processes wait for each other."""
        super().instantiate_classes()
        self.datamodule.wait_seconds = self.config_init["timeout"]
        self.datamodule.listing = Path(self.house_logger.log_dir) / UNREADABLE


def fit(argv: list[str]) -> Path | None:
    """Train as the command line says.

    Returns:
        The run's folder; None when only help was asked for.

    Raises:
        UserError: whatever in the configuration, the data or the checkpoint a user can mend.
        SystemExit: 143 after a signal to stop, 0 after ``--print_config``.
    """
    if "-h" in argv or "--help" in argv:
        print(HELP.format(recipes=", ".join(sorted(p.stem for p in (room("configs") / "recipes").glob("*.yaml")))))
        return None
    own, rest = _own_arguments(argv)
    if not own.config:
        raise UserError("vidssl fit needs --config RECIPE: a YAML file or a shipped recipe's name (vidssl fit --help lists them)")
    configs = [find_config(name) for name in own.config]
    allowed = (*ALLOWED, *own.allow_class_path)
    for config in configs:
        check_file(config, allowed)
    name = own.run or configs[0].stem
    checkpoint, version = own.ckpt_path, None
    if checkpoint == "auto":
        checkpoint = "last" if found(Path(own.runs) / name) else None
    if checkpoint == "last":
        root = Path(own.runs) / name
        checkpoint = newest(root)
        version = checkpoint.relative_to(root).parts[0]  # goes on in its own folder; anything else gets a new one
    elif checkpoint is not None:
        verify(Path(checkpoint))
    logger = TensorBoardLogger(own.runs, name, version=version, default_hp_metric=False)
    line = [part for config in configs for part in ("--config", str(config))] + rest
    with Loading(), quiet(), only(allowed):
        try:
            cli = FitCLI(logger, allowed, line)
            with told_end(cli.config_init["timeout"]):
                cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint and str(checkpoint))
        except MisconfigurationException as error:
            raise UserError(f"the trainer cannot run so: {error}") from error
        except ValueError as error:
            if said := refusal(error):
                raise said from None
            raise
    _tell(cli.trainer, Path(logger.log_dir))
    return Path(logger.log_dir)


def _own_arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Take our own options from the line; the rest is LightningCLI's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    parser.add_argument("--run", default=None)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--ckpt_path", default=None)
    parser.add_argument("--allow_class_path", action="append", default=[])
    try:
        return parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{error} (vidssl fit --help explains)") from error


def _tell(trainer: Trainer, folder: Path) -> None:
    """Say where things are.

    Raises:
        UserError: the last step could not be saved.
    """
    if not trainer.is_global_zero:
        return
    print(f"{trainer.global_step} steps done; the run is in {folder}")
    for keeper in (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Keep)):
        if not (keeper.folder / f"step={keeper.saved}.ckpt").exists():
            raise UserError(f"the last step's checkpoint could not be written to {str(keeper.folder)!r}: make room, and go on from the one before with --ckpt_path last")
        print(f"  model:   {keeper.folder / LAST}")
    if isinstance(trainer.logger, TensorBoardLogger):
        print(f"  curves:  tensorboard --logdir {folder}")
