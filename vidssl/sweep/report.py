"""One static page on a sweep: which way of limiting z works best, on one axis of bits; with its figures and tables as files.

Beside ``index.html`` lie ``summary.json`` (every score's mean and spread), ``summary.md`` (the tables) and the figures as SVG,
each of which can be taken out on its own.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

from vidssl import __version__
from vidssl.data.config import make_data
from vidssl.evaluation import report as runs
from vidssl.evaluation.report_scores import show
from vidssl.files import write_text
from vidssl.sweep.oracle import oracle_curve
from vidssl.sweep.report_cells import Sweep, read_sweep_folder
from vidssl.sweep.report_figures import CAPTIONS, Oracle, figures
from vidssl.sweep.report_numbers import Stat, kinds_of, scores_of
from vidssl.sweep.report_pictures import Example, examples
from vidssl.sweep.report_tables import Table, big_table, control_table, energy_table, meanings
from vidssl.types import UserError

HEADS = {
    "rate-distortion.svg": "What do the bits buy?",
    "coverage.svg": "Does each future come as often as it should?",
    "calibration.svg": "Is the energy calibrated?",
    "auroc.svg": "What does the energy tell from what?",
}


def write_sweep_report(folder: Path, out: Path, title: str = "", intro: str = "") -> Path:
    """Write the report of the sweep in `folder` into `out`.

    Args:
        title: of the page. intro: further sentences below the page's own; blank lines part paragraphs.

    Returns:
        The page's path.

    Raises:
        UserError: no finished cell, cells of different configurations, or files that are not what they should be.
    """
    sweep = read_sweep_folder(Path(folder))
    oracle = find_oracle(sweep)
    drawn, tables = figures(sweep, oracle), {"big": big_table(sweep, oracle), "energy": energy_table(sweep)}
    if (control := control_table(sweep)) is not None:
        tables["control"] = control
    shown, whole = examples(sweep, out)
    title = title or f"Ways to limit z, compared on {world_of(sweep)}"
    for name, drawing in drawn.items():
        write_text(out / name, drawing)
    write_text(out / "summary.json", summary_json(sweep, oracle))
    write_text(out / "summary.md", summary_markdown(sweep, tables, title, oracle))
    write_text(out / "index.html", _page(sweep, drawn, tables, shown, whole, title, intro, oracle))
    return out / "index.html"


def find_oracle(sweep: Sweep) -> Oracle:
    """The rate-distortion curve of the sweep's data; None where futures are not known, or the data is not here."""
    try:
        data = make_data(sweep.spec["data"], "the data of the sweep")
        if data.world is None:
            return None
        states = data.clips("test").batch(0, list(range(min(4, len(data.clips("test")))))).state
    except UserError:
        return None
    return None if states is None else oracle_curve(data.world, states)


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


def _page(sweep: Sweep, drawn: dict[str, str], tables: dict[str, Table], shown: list[Example], whole: bool, title: str, intro: str, oracle: Oracle) -> str:
    lead = "".join(f'<p class="lead">{escape(part.strip())}</p>' for part in [*about(sweep, oracle), *intro.split("\n\n")] if part.strip())
    lead += "".join(f'<p class="warn">{escape(part)}</p>' for part in warnings(sweep))
    css = Path(runs.__file__).with_name("report.css").read_text("utf-8") + Path(__file__).with_name("report.css").read_text("utf-8")
    plots = "".join((f"</section><section><h2>{escape(HEADS[name])}</h2>" if name in HEADS else "") + _plot(name, drawing) for name, drawing in drawn.items())
    words = "".join(f"<div><dt>{escape(head)}:</dt> <dd>{escape(meaning)}</dd></div>" for head, meaning in meanings(tables["big"]))
    control = f'<section><h2>Does the controller hit its target?</h2><p class="muted">The price follows the rate until the bits paid meet a target. Native bits on test clips.</p>{tables["control"].html()}</section>' if "control" in tables else ""
    failed = "".join(f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in sorted(sweep.failed.items()))
    fitted = "" if whole else '<p class="muted">Not all of them: together they would be too large.</p>'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="vidssl {__version__}">
<link rel="icon" href="{runs.ICON}">
<title>{escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{lead}</header>
<main>
<section>{plots}</section>
<section><h2>Is the energy an energy?</h2>
<p class="muted">Rank correlation and slope of the free energy F against −log p of the possible futures, of the best z (min) and of all z together (soft): 1 is ideal. Beside them the AUROC against the blurred mean, against two futures superposed and against another clip's future. A model can have one without the other.</p>
{tables["energy"].html()}</section>
<section><h2>All numbers</h2>
{tables["big"].html()}<dl class="glossary">{words}</dl></section>
{control}
<section><h2>Futures of one past</h2>
<p class="muted">One seed of each limiter, drawn under the probe prior, at the value of its knob whose bits are nearest to what there is to tell. Blue: past; green: what came; orange: drawn.</p>{fitted}
<div class="examples">{"".join(map(_example, shown)) or '<p class="muted">The cells kept no pictures.</p>'}</div></section>
{f'<section><h2>Failed cells</h2><ul>{failed}</ul></section>' if failed else ""}
</main>
<footer>Written by vidssl {__version__}. The numbers: <a href="summary.json">summary.json</a>, <a href="summary.md">summary.md</a>.</footer>
</body>
</html>
"""


def _plot(name: str, drawing: str) -> str:
    width = int(drawing.partition('width="')[2].partition('"')[0])
    return (
        f'<figure class="plot"><div class="wide"><a href="{name}"><img src="{name}" alt="{escape(CAPTIONS[name], quote=True)}" style="max-width:{round(1.3 * width)}px"></a></div>'
        f"<figcaption>{escape(CAPTIONS[name])}</figcaption></figure>"
    )


def _example(one: Example) -> str:
    name = one.point.limiter + ("" if one.point.value == "on" else f", {one.point.value}")
    return (
        f'<figure><h3>{escape(name)}</h3><picture><source media="(prefers-reduced-motion: reduce)" srcset="{one.still}">'
        f'<img src="{one.film}" width="{one.size[0]}" height="{one.size[1]}" alt="{escape(f"{name}: a past, its future, and futures drawn by the model", quote=True)}"></picture></figure>'
    )


def _stat(found: Stat) -> dict[str, Any]:
    return {"mean": _round(found.mean), "std": _round(found.std), "n": found.n}


def _round(value: float | None) -> Any:
    return None if value is None else "inf" if math.isinf(value) else float(f"{value:.6g}")
