"""Cutting a document's text into passages that a search can find and cite. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from runyard_workers.documents.extraction import Section

#: A passage's length in characters: enough to answer from, little enough to show several.
LENGTH: Final = 1200
_BREAKS: Final = re.compile(r"\n\s*\n|(?<=[.!?])\s+|\n")
_PAGE: Final = re.compile(r"^page (\d+)$")


def cut(sections: Iterable[Section]) -> list[tuple[str, int | None]]:
    """Passages (text, page) in order; none spans two sections, so that each has one page."""
    found: list[tuple[str, int | None]] = []
    for section in sections:
        page = _PAGE.match(section.label or "")
        heading = f"[{section.label}] " if section.label and not page else ""
        found += [(heading + text, int(page[1]) if page else None) for text in _pieces(section.text)]
    return found


def _pieces(text: str) -> Iterator[str]:
    """Whole paragraphs or sentences up to the length; what is longer than that is cut between words."""
    piece = ""
    for part in _parts(text):
        if piece and len(piece) + len(part) + 1 > LENGTH:
            yield piece
            piece = ""
        piece = f"{piece} {part}" if piece else part
    if piece:
        yield piece


def _parts(text: str) -> Iterator[str]:
    for part in _BREAKS.split(text):
        rest = part.strip()
        while len(rest) > LENGTH:
            space = rest.rfind(" ", 1, LENGTH)
            at = space if space > 0 else LENGTH
            yield rest[:at].strip()
            rest = rest[at:].strip()
        if rest:
            yield rest
