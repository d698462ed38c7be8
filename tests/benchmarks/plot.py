"""Bars as SVG of the first table: one panel a measure, one bar a subject, with a whisker from its least to its most."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from tests.benchmarks.figures import Rounds, measured
from tests.benchmarks.measures import TABLES, Measure

WIDTH, LABELS, FIGURES = 760, 190, 80
ROW, HEAD = 22, 34
OURS, THEIRS, INK = "#2563eb", "#94a3b8", "#1f2937"


def svg(rounds: Rounds, labels: Mapping[str, str]) -> str:
    """The whole picture."""
    panels = [(measure, _shown(rounds, measure)) for measure in measured(rounds, TABLES[0])]
    height = sum(HEAD + ROW * len(shown) for _, shown in panels) + HEAD // 2
    size = f'width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}"',
        f' font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect {size} fill="#ffffff"/>',
    ]
    top = 0
    for measure, shown in panels:
        parts += _panel(shown, labels, measure, top)
        top += HEAD + ROW * len(shown)
    return "\n".join([*parts, "</svg>", ""])


def _shown(rounds: Rounds, measure: Measure) -> dict[str, Sequence[float]]:
    """The figures of the subjects that have some."""
    return {name: found[measure.name] for name, found in rounds.items() if found.get(measure.name)}


def _panel(
    shown: Mapping[str, Sequence[float]], labels: Mapping[str, str], measure: Measure, top: int
) -> list[str]:
    scale = (WIDTH - LABELS - FIGURES) / (max(max(values) for values in shown.values()) or 1)
    title = escape(f"{measure.label} ({measure.unit})")
    parts = [f'<text x="12" y="{top + HEAD - 12}" font-weight="bold">{title}</text>']
    for row, (name, values) in enumerate(shown.items()):
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
