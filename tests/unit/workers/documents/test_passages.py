"""Passages: whole sentences where they fit, one page each, nothing lost."""

from __future__ import annotations

from runyard_workers.documents.extraction import Section
from runyard_workers.documents.passages import LENGTH, cut


def test_short_sections_stay_whole_with_their_page() -> None:
    assert cut([Section("One.", "page 1"), Section("Two.", "page 2")]) == [("One.", 1), ("Two.", 2)]


def test_a_section_that_is_no_page_keeps_its_name() -> None:
    assert cut([Section("a,b", "sheet Costs")]) == [("[sheet Costs] a,b", None)]


def test_long_text_is_cut_between_sentences_and_loses_no_word() -> None:
    text = " ".join(f"Sentence number {n} is here." for n in range(300))
    pieces = [piece for piece, _ in cut([Section(text)])]
    assert all(len(piece) <= LENGTH for piece in pieces)
    assert all(piece.endswith(".") for piece in pieces)
    assert " ".join(pieces) == text


def test_a_word_longer_than_a_passage_is_cut_too() -> None:
    pieces = [piece for piece, _ in cut([Section("x" * (LENGTH * 2 + 5))])]
    assert [len(piece) for piece in pieces] == [LENGTH, LENGTH, 5]
