"""The tables of a sweep's report, once as rows and heads, then as HTML or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from vidssl.evaluation.report_scores import show
from vidssl.sweep.oracle import distortion_on
from vidssl.sweep.report_cells import Point, Sweep, knob_of
from vidssl.sweep.report_figures import Oracle, best_of
from vidssl.sweep.report_numbers import BIG, BITS, DISTORTION, ENERGY, PRIORS, at, capacity, controls, of, stat


@dataclass
class Table:
    """Cells of text; the first `names` of each row are the row's names.

    Attributes:
        heads: of columns. meanings: a line on a column, or "". rows: of text.
    """

    heads: list[str]
    rows: list[list[str]]
    meanings: list[str] = field(default_factory=list)
    names: int = 2

    def html(self) -> str:
        """In the page's style; a limiter's first row has a line above it."""
        meanings = self.meanings or [""] * len(self.heads)
        head = "".join(f'<th scope="col"{" class=name" if i < self.names else ""}{_title(m)}>{escape(h)}</th>' for i, (h, m) in enumerate(zip(self.heads, meanings, strict=True)))
        body, last = [], None
        for row in self.rows:
            first = "".join(f'<th scope="row">{escape(cell)}</th>' for cell in row[: self.names])
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[self.names :])
            kind = "" if row[0] == last else ' class="first"'
            body.append(f"<tr{kind}>{first}{cells}</tr>")
            last = row[0]
        return f'<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'

    def markdown(self) -> str:
        """As GitHub shows it."""
        lines = [self.heads, ["---"] * self.names + ["---:"] * (len(self.heads) - self.names), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def big_table(sweep: Sweep, oracle: Oracle) -> Table:
    """Every limiter and value: capacity, bits, errors, cost."""
    n, knobs = best_of(sweep), _knobs(sweep)
    heads = ["limiter", "knob", *(c.head.format(n=n) for c in BIG)]
    meanings = ["", "", *(c.meaning.format(n=n) for c in BIG)]
    rows = [[p.limiter, knobs[id(p)], capacity(p), *(str(of(p, c.read)) for c in BIG[1:]), str(len(p.cells))] for p in sweep.points]
    if oracle is not None and oracle[1]:
        place = 3 + next(i for i, c in enumerate(BIG) if c.key == "distortion")
        heads.insert(place, "over ideal")
        meanings.insert(place, "distortion less the least that any code of as many bits (probe) could have")
        for row, point in zip(rows, sweep.points, strict=True):
            row.insert(place, str(above(point, oracle)))
    return Table([*heads, "seeds"], rows, [*meanings, "how many finished"])


def above(point: Point, oracle: Oracle) -> object:
    """Distortion over that of the oracle at the same bits, seed by seed."""
    assert oracle is not None
    pairs = [(DISTORTION(cell), distortion_on(oracle[0], max(0.0, bits))) for cell in point.cells if (bits := BITS(cell)) is not None]
    return stat([d - least for d, least in pairs if d is not None and least is not None])


def energy_table(sweep: Sweep) -> Table:
    """Is the energy an energy? Two rows a point: under the probe prior and under the native one."""
    knobs, rows = _knobs(sweep), []
    for point in sweep.points:
        for prior in reversed(PRIORS):
            name = prior if prior == "probe" else f"native: {point.cells[0].get('native_prior', 'own')}"
            if prior == "native" and point.family == "none":
                continue  # without z there is no prior, and both are one
            rows.append([point.limiter, knobs[id(point)], "none" if point.family == "none" else name, *(str(of(point, at(f"{prior}.{path}"))) for path, _ in ENERGY)])
    meanings = {
        "rank": "rank correlation of F with −log p over the possible futures: 1 puts them in the order of their odds",
        "slope": "of F / price on −log p: 1 where differences of energy are log odds",
    }
    told = [meanings.get(head.partition(",")[0], "AUROC of true futures against this kind of wrong ones") for _, head in ENERGY]
    return Table(["limiter", "knob", "prior", *(head for _, head in ENERGY)], rows, ["", "", "under which z is priced", *told], 3)


def control_table(sweep: Sweep) -> Table | None:
    """Target and bits paid on test clips, where a controller had a target; the worst seed of each limiter is marked."""
    found, knobs = controls(sweep), _knobs(sweep)
    worst = {}
    for row in found:
        if row.point.limiter not in worst or abs(row.worst_off) > abs(worst[row.point.limiter].worst_off):
            worst[row.point.limiter] = row
    rows = [
        [r.point.limiter, knobs[id(r.point)], f"{r.target:g}", str(r.paid), _share(r.off), f"s{r.worst_seed}: {show(r.worst_paid)}", _share(r.worst_off), "◀ worst" if worst[r.point.limiter] is r else ""]
        for r in found
    ]
    heads = ["limiter", "knob", "target bits", "bits paid (native)", "off target", "worst seed", "its error", "of its limiter"]
    return Table(heads, rows) if rows else None


def _share(value: float) -> str:
    return f"{100 * value:+.1f} %".replace("-", "−")


def _knobs(sweep: Sweep) -> dict[int, str]:
    """Each point's value with the name of what it is a value of, where that can be told."""
    found = {}
    for points in sweep.limiters.values():
        name = knob_of(points)
        for point in points:
            found[id(point)] = "" if point.value == "on" else f"{name} {point.value}".strip()
    return found


def _title(meaning: str) -> str:
    return f' title="{escape(meaning, quote=True)}"' if meaning else ""


def meanings(table: Table) -> Sequence[tuple[str, str]]:
    """Heads with what they mean."""
    return [(head, meaning) for head, meaning in zip(table.heads, table.meanings, strict=True) if meaning]
