"""One static page that compares runs: futures that play, scores beside their ideals, charts.

The page is ``index.html`` in a folder and needs nothing from elsewhere: no script, no font, no network. Films of
runs that lie inside the folder are shown where they are; others are copied to ``files/`` in it, so the folder
can be moved or sent whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vidssl import __version__
from vidssl.evaluation import report_charts as charts
from vidssl.evaluation.report_runs import Run, read_runs
from vidssl.evaluation.report_scores import Score, number_at, numbers_at, rows_for, show, value_at, verdict
from vidssl.evaluation.report_training import training_charts
from vidssl.files import atomic, write_text

HEADLINES = ("total_variation", "rate_bits", "auroc.blurred", "best_of_N.*.psnr", "diversity")
TILES = 4  # of the headlines, the first that a run has
VERDICTS = {"good": "✓ good", "fair": "≈ fair", "poor": "✗ poor"}
ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M2 8h4l7-5M6 8h7M6 8l7 5' fill='none' stroke='%230d7f86' stroke-width='2'/%3E%3C/svg%3E"


def write_report(runs: list[Path], out: Path, title: str = "Futures compared", intro: str = "") -> Path:
    """Write ``out/index.html`` from the folders of runs.

    Args:
        runs: folders with a ``metrics.json``, or folders of such folders; see :mod:`report_runs` for what may lie in them.
        out: the page's folder; made if need be.
        title: what the page is about. intro: a few sentences for who has not seen this data; blank lines part paragraphs.

    Returns:
        The page's path.

    Raises:
        UserError: no runs, files that are not what they should be, or protocols that differ. Nothing is written then.
        OSError: no room, no permission.
    """
    read = read_runs([Path(run) for run in runs])
    out = Path(out)
    cards = "".join(_card(run, place, out) for place, run in enumerate(read))
    drawn = "".join(_charts(read))
    lead = "".join(f'<p class="lead">{escape(part.strip())}</p>' for part in intro.split("\n\n") if part.strip())
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="vidssl {__version__}">
<link rel="icon" href="{ICON}">
<title>{escape(title)}</title>
<style>
{Path(__file__).with_name("report.css").read_text("utf-8")}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{lead}</header>
<main>
<section><h2>Futures of one past</h2>
<p class="muted">Every film runs through the same past, and then each picture goes its own way.</p>
<ul class="key"><li><i class="past"></i>past</li><li><i class="truth"></i>what really came</li><li><i class="drawn"></i>drawn by the model</li></ul>
{cards}</section>
{f'<section><h2>In pictures</h2><div class="charts">{drawn}</div></section>' if drawn else ""}
<section><h2>Scores beside their ideals</h2>
<p class="muted">The ideal is what drawing from the truth itself scores, where the truth is known. “Copying” shows the last known frame again and again: what a model reaches that learned nothing.</p>
{_scores(read)}</section>
<section><h2>How it was measured</h2>
<p class="muted">All runs on this page were measured alike; a report of runs that were not is refused.</p>
{_protocol(read)}</section>
</main>
<footer>Written by vidssl {__version__}. This folder holds all that the page needs.</footer>
</body>
</html>
"""
    write_text(out / "index.html", page)
    return out / "index.html"


def _card(run: Run, place: int, out: Path) -> str:
    """A run: what it is, its headlines, its films and its files."""
    rows = {row.key: row for row in rows_for([run.metrics])}
    tiles = "".join(_tile(rows[key], run) for key in [k for k in HEADLINES if k in rows][:TILES])
    films = "".join(_film(path, run, out) for path in run.films) or '<p class="muted">This run has no films (futures*.mp4).</p>'
    files = [(path.name, _link(path, run, out)) for path in [run.folder / "metrics.json", *run.films, *run.stills]]
    inside = [path for path in run.exports if path.resolve().is_relative_to(out.resolve())]
    files += [(f"exported: {path.name}/", _relative(path, out) + "/") for path in inside]
    links = "".join(f'<li><a href="{href}">{escape(name)}</a></li>' for name, href in files)
    about = f'<p class="muted">{escape(str(run.metrics["about"]))}</p>' if run.metrics.get("about") else ""
    return (
        f'<article class="card {charts.colour(place)}"><h3>{escape(run.title)}</h3>{about}<div class="tiles">{tiles}</div>'
        f'<div class="films">{films}</div><ul class="files">{links}</ul></article>'
    )


def _tile(score: Score, run: Run) -> str:
    ideal = number_at(run.metrics, f"ideal.{score.key}")
    floor = number_at(run.metrics, score.floor)
    beside = [f"ideal {show(ideal)}"] * (ideal is not None) + [f"copying {show(floor)}"] * (floor is not None)
    value = show(number_at(run.metrics, score.key), score.unit)
    return f'<div class="tile"><small>{escape(score.name(run.metrics))}</small><b>{value}</b>{_verdict(score, run)} <small>{", ".join(beside)}</small></div>'


def _film(path: Path, run: Run, out: Path) -> str:
    """A film that plays by itself, and its still, which takes its place for whoever asks for less motion."""
    width, height = run.films[path]
    stills = {still.suffix: _link(still, run, out) for still in run.stills if still.stem == path.stem}
    name = escape(f"{run.title}: {path.stem.replace('_', ' ').replace('-', ' ')}", quote=True)
    moving = f'<video src="{_link(path, run, out)}" width="{width}" height="{height}" autoplay loop muted playsinline preload="auto" aria-label="{name}" title="{name}"></video>'
    if ".png" not in stills:
        return f'<figure class="film" style="max-width:{width}px">{moving}</figure>'
    picture = f'src="{stills[".png"]}" alt="{name}, frame by frame" loading="lazy"'
    return (
        f'<figure class="film" style="max-width:{width}px">{moving}<img class="still" {picture}>'
        f"<details><summary>frame by frame</summary><img {picture}></details></figure>"
    )


def _verdict(score: Score, run: Run) -> str:
    found = verdict(score, run.metrics)
    return f'<span class="verdict {found}">{VERDICTS[found]}</span>' if found else ""


def _scores(runs: list[Run]) -> str:
    """The table: a row a score with its meaning, a column a run, then the ideal, with floor and noise below it."""
    rows = rows_for([run.metrics for run in runs])
    ideals = any(number_at(r.metrics, f"ideal.{row.key}") is not None for row in rows for r in runs)
    names = [*(run.title for run in runs), "ideal" if ideals else "to compare"]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", *names))
    body, group = [], ""
    for row in rows:
        if row.group != group:
            group = row.group
            body.append(f'<tr class="group"><th colspan="{len(names) + 1}" scope="rowgroup">{escape(group)}</th></tr>')
        cells = [(show(number_at(r.metrics, row.key), row.unit), _verdict(row, r), "") for r in runs]
        ideal, floor, noise = (_first(runs, path) for path in (f"ideal.{row.key}", row.floor, row.noise))
        beside = [f"copying {show(floor, row.unit)}"] * (floor is not None) + [f"{show(noise)} by chance alone"] * (noise is not None)
        note = f"<small>{', '.join(beside)}</small>" if beside else ""
        cells.append(("" if ideal is None and beside else show(ideal, row.unit), note, "ideal"))
        tds = "".join(
            f'<td class="{kind}{" none" if value == "–" else ""}" data-of="{escape(name, quote=True)}"><span class="num">{value}</span>{mark}</td>'
            for name, (value, mark, kind) in zip(names, cells, strict=True)
        )
        body.append(f'<tr><th scope="row">{escape(row.name(runs[0].metrics))}<small>{escape(row.meaning)}</small></th>{tds}</tr>')
    return f'<div class="wide"><table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _first(runs: list[Run], path: str | None) -> float | None:
    """The number at `path` in the first run that has it: what all runs that were measured alike share."""
    return next((v for run in runs if (v := number_at(run.metrics, path)) is not None), None)


def _charts(runs: list[Run]) -> Iterable[str]:
    """Every chart that the runs have numbers for."""
    named = [((run.title, place), run.metrics) for place, run in enumerate(runs)]
    for name, metrics in named:
        yield charts.frequencies(name, *(numbers_at(metrics, f"frequencies.{which}") for which in ("predicted", "true")), number_at(metrics, "frequencies.off_mode") or 0.0)
    entropy = _first(runs, "ideal.rate_bits")
    yield charts.rates([(name, *(number_at(m, k) for k in ("rate_bits", "information_bits", "capacity_bits"))) for name, m in named], entropy)
    yield charts.aurocs([(name, {k: v for k in m["auroc"] if (v := number_at(m, f"auroc.{k}")) is not None}) for name, m in named if isinstance(m.get("auroc"), dict)])
    best = [(title, _by_n(m), charts.colour(place)) for (title, place), m in named]
    best += [("ideal", _by_n(named[0][1], "ideal."), "ideal")]
    if any(len(points) > 1 for _, points, _ in best):
        yield charts.curves("Best of N", "PSNR of the drawn future nearest to what happened, as more are drawn. Flat: all draws are one future.", best, "futures drawn", "dB")
    frames = [(title, _by_frame(m, "best_of_N"), charts.colour(place)) for (title, place), m in named]
    frames += [("copying", _by_frame(named[0][1], "copy_last"), "ideal")]
    if any(len(points) > 1 for _, points, _ in frames):
        yield charts.curves("Further into the future", "PSNR frame by frame: of the drawn future that is nearest over the whole clip, and of copying the last known frame.", frames, "future frame", "dB")
    yield from training_charts(runs)


def _by_n(metrics: dict[str, Any], whose: str = "") -> charts.Curve:
    """PSNR of the best of N against N."""
    found = value_at(metrics, f"{whose}best_of_N")
    ns = sorted(int(n) for n in found if n.isdigit()) if isinstance(found, dict) else []
    return [(n, v) for n in ns if (v := number_at(metrics, f"{whose}best_of_N.{n}.psnr")) is not None]


def _by_frame(metrics: dict[str, Any], which: str) -> charts.Curve:
    """PSNR against the number of the future frame."""
    return [(t + 1, v) for t, v in enumerate(numbers_at(metrics, f"horizon.{which}.psnr"))]


def _protocol(runs: list[Run]) -> str:
    """Each field of the protocols once where all agree, and every number of every run, folded away."""
    fields = dict.fromkeys(key for run in runs for key in run.protocol)
    rows = []
    for field in fields:
        values = [_plain(run.protocol.get(field)) for run in runs]
        told = values[0] if len(set(values)) == 1 else "; ".join(f"{run.title}: {v}" for run, v in zip(runs, values, strict=True))
        rows.append((field, told))
    made = _table(rows)
    for run in runs:
        rest = [(k, v) for k, v in _flat({k: v for k, v in run.metrics.items() if k not in ("protocol", "title", "about")})]
        made += f"<details><summary>everything measured: {escape(run.title)}</summary>{_table(rest)}</details>"
    return made


def _table(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<div class="wide"><table class="plain"><tbody>{body}</tbody></table></div>'


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """Leaves of nested dictionaries with their dotted paths."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, _plain(value)


def _plain(value: Any) -> str:
    """A value in a protocol, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else "–" if value in (None, "") else str(value)


def _relative(path: Path, out: Path) -> str:
    """The path from the page, as a URL."""
    return quote(Path(os.path.relpath(path.resolve(), out.resolve())).as_posix())


def _link(path: Path, run: Run, out: Path) -> str:
    """A URL of a file inside the page's folder; a file that lies elsewhere is copied into it first."""
    if not path.resolve().is_relative_to(out.resolve()):
        inside = out / "files" / run.name.replace("/", "-") / path.name
        with atomic(inside) as draft:
            shutil.copyfile(path, draft)
        path = inside
    return _relative(path, out)
