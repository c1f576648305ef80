"""How numbers, tables and curves are shown: as text, and as HTML for notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

LEAST, MOST = 1e-3, 1e9  # four decimals show at least one figure above the one, and are more than float64 has above the other

WIDTH, HEIGHT = 320, 120  # of a curve's lines, in pixels
COLOURS = ("#3d8fd1", "#c8772a")  # seen on white and on black
STYLE = "margin:4px 0;border-collapse:collapse;font-family:monospace;font-size:13px;white-space:nowrap;color:inherit"


def number(value: float) -> str:
    """A loss or a score: four decimals as the notebook prints it, and four figures where these would not show it.

    >>> number(0.69314), number(3.2e-6), number(0.0), number(float("nan"))
    ('0.6931', '3.200e-06', '0.0000', 'nan')
    """
    size = abs(value)
    return f"{value:.3e}" if 0 < size < LEAST or MOST <= size < math.inf else f"{value:.4f}"


def table(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Rows of cells below one another; `right` says which columns end at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if end else cell.ljust(w) for cell, w, end in zip(row, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def html_table(caption: str, rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """The same for a notebook, the first row as the heads; its colours are the notebook's."""
    sides = ["right" if end else "left" for end in right]
    parts = [
        f'<table style="{STYLE}" cellpadding="4"><caption style="caption-side:top;text-align:left">{escape(caption)}</caption>'
    ]
    for kind, row in zip(("th", *("td",) * len(rows)), rows, strict=False):
        made = [f'<{kind} style="text-align:{side}">{escape(cell)}</{kind}>' for cell, side in zip(row, sides, strict=True)]
        parts.append(f"<tr>{''.join(made)}</tr>")
    return "".join(parts) + "</table>"


def curves(x: Sequence[float], lines: Mapping[str, Sequence[float]], log: bool) -> str:
    """An SVG picture of some lines, of at most two points a pixel: some kilobytes, however many points there are."""
    shown = {name: [math.log10(y) if log and y > 0 else y for y in map(float, line)] for name, line in lines.items()}
    finite = [y for line in shown.values() for y in line if math.isfinite(y)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    # Halves, since the difference of two numbers of any size may be beyond the largest.
    span, reach = (high / 2 - low / 2) or 1.0, (x[-1] - x[0]) or 1
    ends = [number(10**y if log else y) for y in (high, low)]
    left = 8 * max(map(len, ends)) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + WIDTH + 90}" height="{HEIGHT + 32}" role="img"'
        ' fill="currentColor" font-family="monospace" font-size="12">'
        f"<title>{escape(', '.join(lines))} over the epochs{', logarithmic' if log else ''}</title>"
        f'<path d="M{left} 8V{HEIGHT + 10}H{left + WIDTH + 4}" fill="none" stroke="currentColor" opacity="0.5"/>'
    ]
    for end, at in zip(ends, (12, HEIGHT + 10), strict=True):
        parts.append(f'<text x="{left - 4}" y="{at}" text-anchor="end">{end}</text>')
    for epoch, at, anchor in ((x[0], left, "start"), (x[-1], left + WIDTH, "end")):
        parts.append(f'<text x="{at}" y="{HEIGHT + 26}" text-anchor="{anchor}">{epoch}</text>')
    for i, (name, line) in enumerate(shown.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = [round((at - x[0]) / reach * WIDTH) for at in x]
        heights = [8 + (high / 2 - y / 2) / span * HEIGHT if math.isfinite(y) else math.nan for y in line]
        path = _path([left + 2 + at for at in places], heights)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linecap="round"/>')
        parts.append(f'<text x="{left + WIDTH + 10}" y="{20 + 16 * i}" fill="{colour}">{escape(name)}</text>')
    return "".join(parts) + "</svg>"


def _path(places: Sequence[int], heights: Sequence[float]) -> str:
    """The lowest and the highest point of each pixel's column, in the order in which they come; a gap where it has none."""
    parts, pen = [], "M"
    for place, column in groupby(zip(places, heights, strict=True), key=lambda point: point[0]):
        known = [(y, i) for i, (_, y) in enumerate(column) if not math.isnan(y)]
        ends = {min(known), max(known)} if known else set()
        for y, _ in sorted(ends, key=lambda end: end[1]):
            # A line of no length: its round ends show a point that has no neighbours.
            parts.append(f"{pen}{place} {y:.1f}{'h0' if pen == 'M' else ''}")
            pen = "L"
        if not known:
            pen = "M"
    return "".join(parts)
