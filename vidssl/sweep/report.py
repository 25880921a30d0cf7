"""One static page on a sweep: which way of limiting z works best, on one axis of bits; with its figures and tables as files.

Beside ``index.html`` lie ``summary.json`` (every score's mean and spread), ``summary.md`` (the tables) and the figures as SVG,
each of which can be taken out on its own.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from vidssl import __version__
from vidssl.data.config import make_data
from vidssl.evaluation import report as runs
from vidssl.files import write_text
from vidssl.sweep.oracle import oracle_curve
from vidssl.sweep.report_cells import Sweep, read_sweep_folder
from vidssl.sweep.report_figures import CAPTIONS, Oracle, figures
from vidssl.sweep.report_pictures import Example, examples
from vidssl.sweep.report_summary import about, summary_json, summary_markdown, warnings, world_of
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
    oracle, why = find_oracle(sweep)
    drawn, tables = figures(sweep, oracle), {"big": big_table(sweep, oracle), "energy": energy_table(sweep)}
    if (control := control_table(sweep)) is not None:
        tables["control"] = control
    shown, whole = examples(sweep, out)
    title = title or f"Ways to limit z, compared on {world_of(sweep)}"
    for name, drawing in drawn.items():
        write_text(out / name, drawing)
    write_text(out / "summary.json", summary_json(sweep, oracle))
    write_text(out / "summary.md", summary_markdown(sweep, tables, title, oracle))
    write_text(out / "index.html", _page(sweep, drawn, tables, shown, whole, title, intro, oracle, why))
    return out / "index.html"


def find_oracle(sweep: Sweep) -> tuple[Oracle, str]:
    """The rate-distortion curve of the sweep's data; or None, and why: futures are not known, or the data is not here."""
    try:
        data = make_data(sweep.spec["data"], "the data of the sweep")
        if data.world is None:
            return None, "the futures of this data are not known"
        states = data.clips("test").batch(0, list(range(min(4, len(data.clips("test")))))).state
        return (None, "the clips tell no state of the world") if states is None else (oracle_curve(data.world, states), "")
    except UserError as error:
        return None, str(error)


def _page(sweep: Sweep, drawn: dict[str, str], tables: dict[str, Table], shown: list[Example], whole: bool, title: str, intro: str, oracle: Oracle, why: str) -> str:
    lead = "".join(f'<p class="lead">{escape(part.strip())}</p>' for part in [*about(sweep, oracle), *intro.split("\n\n")] if part.strip())
    lead += f'<p class="muted">No curve of the best code: {escape(why)}.</p>' if why else ""
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
<p class="muted">One seed of each limiter, drawn under the probe prior, at the value of its knob whose bits are nearest to what there is to tell (its middle value where that is unknown). Blue: past; green: what came; orange: drawn.</p>{fitted}
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
