"""Bars as SVG: one panel a measure, one bar a subject, with a whisker from its least to its most."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from xml.sax.saxutils import escape

from tests.benchmarks.figures import Measure, Rounds, measured

WIDTH, LABELS, FIGURES = 760, 190, 80
ROW, HEAD = 22, 34
OURS, THEIRS, INK = "#2563eb", "#94a3b8", "#1f2937"


def svg(rounds: Rounds, labels: Mapping[str, str]) -> str:
    """The whole picture."""
    measures = measured(rounds)
    panel = HEAD + ROW * len(rounds)
    height = panel * len(measures) + HEAD // 2
    size = f'width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}"',
        f' font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect {size} fill="#ffffff"/>',
    ]
    for number, measure in enumerate(measures):
        parts += _panel(rounds, labels, measure, number * panel)
    return "\n".join([*parts, "</svg>", ""])


def _panel(rounds: Rounds, labels: Mapping[str, str], measure: Measure, top: int) -> list[str]:
    most = max(max(found[measure.name]) for found in rounds.values())
    scale = (WIDTH - LABELS - FIGURES) / most
    title = escape(f"{measure.label} ({measure.unit})")
    parts = [f'<text x="12" y="{top + HEAD - 12}" font-weight="bold">{title}</text>']
    for row, (name, found) in enumerate(rounds.items()):
        values = found[measure.name]
        y, middle = top + HEAD + row * ROW, statistics.median(values)
        length, low, high = (scale * value for value in (middle, min(values), max(values)))
        colour = OURS if name.startswith("runyard") else THEIRS
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(labels[name])}</text>',
            f'<rect x="{LABELS}" y="{y + 2}" width="{length:.1f}" height="{ROW - 7}" fill="{colour}"/>',
            f'<path d="M{LABELS + low:.1f} {y + 9.5}H{LABELS + high:.1f}" stroke="{INK}"/>',
            f'<text x="{LABELS + high + 6:.1f}" y="{y + 13}">{middle:.{measure.digits}f}</text>',
        ]
    return parts
