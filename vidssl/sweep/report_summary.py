"""A sweep in words, as JSON and as Markdown: what can be committed and read without the page."""

from __future__ import annotations

import json
import math
from typing import Any

from vidssl import __version__
from vidssl.sweep.report_cells import Sweep
from vidssl.sweep.report_figures import Oracle
from vidssl.sweep.report_numbers import Stat, kinds_of, scores_of
from vidssl.sweep.report_tables import Table, meanings


def world_of(sweep: Sweep) -> str:
    """The data's name: of the world's class, or of the data's."""
    arguments = sweep.spec["data"].get("init_args", {})
    told = arguments.get("world") or sweep.spec["data"]
    return str(told.get("class_path", "data") if isinstance(told, dict) else told).rpartition(".")[2]


def about(sweep: Sweep, oracle: Oracle) -> list[str]:
    """What is compared, in a few plain sentences."""
    net, training, entropy = sweep.spec["network"] or {}, sweep.spec["training"] or {}, sweep.first("probe.ideal.rate_bits")
    seeds, parts = len(sweep.seeds), ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in net.items())
    known = f" Its futures are known exactly and have an entropy of H(y|x) = {entropy:.4g} bits: that is what there is to tell." if entropy is not None else ""
    curve = ""
    if oracle is not None:
        what = "the least error that any code of so many bits can have" if oracle[1] else "the error of the best code for a Gaussian of the same covariance, which a better code can undercut"
        curve = f" The dashed curve is {what}."
    return [
        f"A model predicts the future y of a video from its past x, and a latent z tells it which of the possible futures to draw. If z may say everything, the model learns nothing; "
        f"if it may say too little, futures blur. This page compares {len(sweep.limiters)} ways to limit z on {world_of(sweep)}.{known}",
        f"All share one network ({parts}), {training.get('steps', '?')} steps of {training.get('batch', '?')} clips, "
        f"and {seeds} seed{'s' if seeds != 1 else ''}; only the limiter and its knob differ. Numbers are the mean ± the standard deviation over seeds, on clips that training has not seen.",
        "Every limiter counts its bits in its own way, so after training the same probe prior is fitted to the codes of each: the bits under it are the one axis of all figures. "
        f"“Native” is the limiter's own prior, or, where it learns none, a bank of its codes.{curve}",
    ]


def warnings(sweep: Sweep) -> list[str]:
    """What a reader must know before comparing: cells that are not there."""
    if not sweep.missing:
        return []
    names = ", ".join(sweep.missing[:8]) + (f" and {len(sweep.missing) - 8} more" if len(sweep.missing) > 8 else "")
    count = "1 cell that the finished ones call for is" if len(sweep.missing) == 1 else f"{len(sweep.missing)} cells that the finished ones call for are"
    return [f"This sweep is unfinished: {count} not there ({names})."]


def summary_json(sweep: Sweep, oracle: Oracle) -> str:
    """Rows of limiter, value and every score's mean and standard deviation, a row a line."""
    kinds = kinds_of(sweep)
    head: dict[str, Any] = {
        "vidssl": __version__,
        "spec": sweep.spec,
        "entropy_bits": sweep.first("probe.ideal.rate_bits"),
        "without": sweep.first("without"),
        "oracle": None if oracle is None else {"exact": oracle[1], "bits_distortion": [[_round(b), _round(d)] for b, d in oracle[0]]},
        "failed": sweep.failed,
        "missing": sweep.missing,
    }
    rows = [
        {"limiter": p.limiter, "value": p.value, "family": p.family, "n": len(p.cells), "seeds": p.seeds, "scores": {k: _stat(s) for k, s in scores_of(p, kinds).items()}}
        for p in sweep.points
    ]
    lines = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False, allow_nan=False)}," for k, v in head.items()]
    body = ",\n".join("  " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return "{\n" + "\n".join(lines) + '\n "rows": [\n' + body + "\n ]\n}\n"


def summary_markdown(sweep: Sweep, tables: dict[str, Table], title: str, oracle: Oracle) -> str:
    """The tables as GitHub shows them, with what is compared and what failed."""
    parts = [f"# {title}\n", *(f"{part}\n" for part in about(sweep, oracle)), *(f"**{part}**\n" for part in warnings(sweep)), "## All numbers\n", tables["big"].markdown()]
    parts += ["\n".join(f"- {head}: {meaning}" for head, meaning in meanings(tables["big"])) + "\n", "## Is the energy an energy?\n", tables["energy"].markdown()]
    if "control" in tables:
        parts += ["## Does the controller hit its target?\n", tables["control"].markdown()]
    if sweep.failed:
        parts += ["## Failed cells\n", "\n".join(f"- `{name}`: {why}" for name, why in sorted(sweep.failed.items())) + "\n"]
    return "\n".join(parts)


def _stat(found: Stat) -> dict[str, Any]:
    return {"mean": _round(found.mean), "std": _round(found.std), "n": found.n}


def _round(value: float | None) -> Any:
    return None if value is None else "inf" if math.isinf(value) else float(f"{value:.6g}")
