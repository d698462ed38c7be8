"""docs/comparison.md: what it states about others has a dated source, and its figures are the benchmark's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.documents
DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "comparison.md").read_text()
MEASURED = (DOCS / "performance.md").read_text()
#: What the page rounds, and the figure of the benchmark.
ROUNDED = {"3.5": "3.47", "2.7": "2.68", "22": "22.28"}


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_alternative_of_the_table_names_sources_and_every_source_is_named() -> None:
    rows = [line for line in section("In one table").splitlines() if line.startswith("| **")]
    others = [row for row in rows if "**Runyard**" not in row]
    named = {
        number
        for row in others
        for found in re.findall(r"\[([\d, ]+)\]", row)
        for number in found.split(", ")
    }
    listed = re.findall(r"^\| (\d+) \| .+ \| <https://\S+> \|$", section("Sources"), re.MULTILINE)
    assert len(others) > 8
    assert [row for row in others if not re.search(r"\[\d", row)] == []
    assert sorted(named, key=int) == listed
    assert re.search(r"on \d+ [A-Z]\w+ 20\d\d", section("Sources"))


def test_figures_that_compare_are_in_the_page_of_measurements() -> None:
    compared = " ".join(
        section(title)
        for title in (
            "Which one to take",
            "What Runyard puts first",
            "What Runyard does not do",
        )
    )
    figures = set(re.findall(r"(?<![\w.])\d+\.\d+(?= |,|\)|;)", compared)) - {"0.1.0"}
    assert len(figures) > 8
    missing = [
        figure
        for figure in figures
        if not re.search(rf"\b{re.escape(ROUNDED.get(figure, figure))}0?\b", MEASURED)
    ]
    assert missing == []
