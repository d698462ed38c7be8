"""Tables: CSV with any delimiter, and the one form in which every table is handed on."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from io import StringIO

from runyard_workers.documents.extraction import Draft

_SAMPLE_LINES = 50
_SAMPLE_CHARACTERS = 64 * 1024


def read(text: str, draft: Draft) -> None:
    """Hand the table on as comma-separated rows; text that is no table is handed on as it is."""
    rows = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        draft.add(render(rows, draft))
    except csv.Error:  # a quote that is never closed swallows the rest of the file
        draft.notices.append("The file is not well-formed CSV; it is included as plain text.")
        draft.add(text)


def render(rows: Iterable[Iterable[object]], draft: Draft) -> str:
    """Rows as comma-separated lines, blank ones left out, up to the limits."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for number, row in enumerate(rows):
        if number % 256 == 0:
            draft.tick()
        values = [str(value) for value in row]
        left = draft.limits.cells - draft.cells
        draft.cells += max(len(values), 1)
        if draft.cells > draft.limits.cells:
            draft.cut(f"Only the first {draft.limits.cells:,} cells are included.")
            values = values[:left]
        while values and not values[-1].strip():
            values.pop()
        if values:
            writer.writerow(values)
        if draft.cells > draft.limits.cells or out.tell() > draft.limits.characters:
            break
    return out.getvalue()


def _delimiter(text: str) -> str:
    """The delimiter that cuts most of the first lines into the same number of columns, above one."""
    sample = text[:_SAMPLE_CHARACTERS].splitlines()[:_SAMPLE_LINES]
    return max(",;\t|", key=lambda delimiter: _evenness(sample, delimiter))


def _evenness(lines: list[str], delimiter: str) -> tuple[int, int]:
    widths = Counter(width for width in _widths(lines, delimiter) if width > 1)
    if not widths:
        return 0, 0
    width, count = widths.most_common(1)[0]
    return count, width


def _widths(lines: list[str], delimiter: str) -> Iterator[int]:
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            yield len(row)
    except csv.Error:
        return
