"""A table of numbers in coloured cells: what an energy tells from what, limiter by limiter, never pooled."""

from __future__ import annotations

from collections.abc import Sequence

from vidssl.sweep.report_marks import INK, MUTED, sheet, text


def heat(value: float) -> str:
    """The colour of an AUROC: red below a coin flip, white at it, blue above."""
    away = min(max(2 * abs(value - 0.5), 0.0), 1.0)
    end = (37, 99, 176) if value > 0.5 else (190, 54, 44)
    return "#" + "".join(f"{round(255 + (c - 255) * 0.78 * away):02x}" for c in end)


def heat_table(title: str, columns: Sequence[str], groups: Sequence[tuple[str, int]], rows: Sequence[tuple[str, str, Sequence[float | None]]]) -> str:
    """Numbers from 0 to 1 in coloured cells.

    Args:
        columns: names. groups: heads over runs of so many columns. rows: limiter, value, and a number or None a column.
    """
    wide, tall, left, top = 54, 18, 28 + 6.4 * max(len(f"{a} {b}") for a, b, _ in rows), 78
    starts = {sum(count for _, count in groups[:k]) for k in range(1, len(groups))}
    spots = [left + j * wide + 10 * sum(j >= s for s in starts) for j in range(len(columns))]
    made, first = [], 0
    for name, count in groups:
        made.append(text((spots[first] + spots[first + count - 1] + wide) / 2, 46, name, 11.5, INK, "middle", "bold"))
        first += count
    made += [text(x + wide / 2, 66, name, 10.5, MUTED, "middle") for x, name in zip(spots, columns, strict=True)]
    last, y = "", float(top)
    for limiter, value, numbers in rows:
        y += 5 if last and limiter != last else 0
        made += [text(10, y + 13, limiter if limiter != last else "", 11, INK), text(left - 8, y + 13, value, 11, MUTED, "end")]
        for x, number in zip(spots, numbers, strict=True):
            if number is None:
                made.append(text(x + wide / 2, y + 13, "–", 11, MUTED, "middle"))
                continue
            ink = "#ffffff" if abs(number - 0.5) > 0.36 else INK
            made.append(f'<rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{wide - 1}" height="{tall - 1}" fill="{heat(number)}"/>')
            made.append(f'<text x="{x + wide / 2:.1f}" y="{y + 13:.1f}" font-size="11" fill="{ink}" text-anchor="middle">{number:.2f}</text>')
        last, y = limiter, y + tall
    return sheet(title, spots[-1] + wide + 12, y + 12, made)
