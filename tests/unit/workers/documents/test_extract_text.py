"""Reading text, web pages and CSV, in every charset."""

from __future__ import annotations

import json

import pytest

from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import ExtractLimits, clean
from tests.unit.workers.documents import documents

# ── text ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "charset", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32"]
)
def test_text_is_read_in_every_charset(charset: str) -> None:
    text = "Größe und Maße: Bestätigung für Frau Müller in Köln"
    read = extract(text.encode(charset), "letter.txt")
    assert (read.kind, read.media_type, read.text) == ("text", "text/plain", text)


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("cp1250", "Szanowni Państwo, proszę o płatność w terminie. Łódź, dnia 5 lutego."),
        ("cp1251", "Договор поставки, сумма сто рублей"),
        ("shift_jis", "請求書の合計金額を確認してください。"),
        ("gb18030", "编号,姓名,金额\n1,张三,100"),
    ],
)
def test_text_of_other_languages_is_recognised(charset: str, text: str) -> None:
    assert extract(text.encode(charset), "letter.txt").text == text


def test_the_charset_is_found_by_the_letters_wherever_they_are() -> None:
    text = "x" * 200_000 + " Договор поставки"
    assert extract(text.encode("cp1251"), "log.txt").text == text


def test_one_broken_letter_does_not_change_the_charset_of_the_rest() -> None:
    assert extract("Größe ".encode() + b"\xff in K.", "a.txt").text == "Größe \ufffd in K."


def test_a_charset_that_is_none_is_not_believed() -> None:
    assert (
        extract(b"caf\xe9-abc", "a.txt", claimed_type="text/plain; charset=unicode_escape").text == "café-abc"
    )


def test_a_claimed_charset_decides_where_the_bytes_do_not() -> None:
    data = "Győr".encode("iso8859-2")  # four letters fit many charsets
    assert extract(data, "a.txt", claimed_type="text/plain; charset=ISO-8859-2").text == "Győr"
    assert extract("Győr".encode(), "a.txt", claimed_type="text/plain; charset=ISO-8859-2").text == "Győr"


@pytest.mark.parametrize(
    ("name", "kind", "media_type"),
    [
        ("notes.md", "markdown", "text/markdown"),
        ("data.json", "json", "application/json"),
        ("script.py", "text", "text/plain"),
        ("README", "text", "text/plain"),
        ("really-text.pdf", "text", "text/plain"),
        ("really-text.png", "text", "text/plain"),
        ("BM.txt", "text", "text/plain"),
    ],
)
def test_the_name_separates_kinds_of_text_and_no_more(name: str, kind: str, media_type: str) -> None:
    text = json.dumps({"BM": "not a bitmap", "%PDF-": "no PDF"})
    read = extract(text.encode(), name)
    assert (read.kind, read.media_type, read.text) == (kind, media_type, text)


def test_a_pdf_is_a_pdf_under_every_name_and_claimed_type() -> None:
    read = extract(documents.pdf("hello"), "notes.txt", claimed_type="text/plain")
    assert (read.kind, read.text) == ("pdf", "[page 1]\nhello")


def test_a_pdf_after_junk_is_a_pdf() -> None:
    assert extract(b"\x00\x00mail header\r\n" + documents.pdf("hello"), "a.pdf").kind == "pdf"


def test_long_text_is_cut_at_the_character_limit_with_a_notice() -> None:
    read = extract(b"x" * 5000, "long.txt", ExtractLimits(characters=1000))
    assert (len(read.text), read.truncated) == (1000, True)
    assert read.notice == "Only the first 1,000 characters are included."


def test_the_character_limit_is_on_the_whole_document() -> None:
    read = extract(documents.pdf("one" * 4, "two" * 4, "six" * 4), "long.pdf", ExtractLimits(characters=20))
    assert [part.text for part in read.sections] == ["oneoneoneone", "twotwotw"]
    assert read.truncated


def test_what_databases_cannot_hold_is_taken_out() -> None:
    text = extract(("a\x00b\r\nc" + "d" * 1000).encode("utf-16"), "nul.txt").text
    assert text == "ab\nc" + "d" * 1000
    assert (
        clean("half \ud83d of a pair, and both \ud83d\ude00") == "half \ufffd of a pair, and both \U0001f600"
    )


def test_html_is_read_as_people_see_it() -> None:
    page = """<!DOCTYPE html><html><head><title>Offer</title><meta charset=windows-1252>
      <style>p{color:red}</style><script>alert("x")</script></head><body><!-- hidden -->
      <h2>Prices &amp; terms</h2><p>Fen\xeatre   <b>isol\xe9e</b><br>now</p><ul><li>one</li><li>two</li></ul>
      <table><tr><td>a</td><td>1</td></tr></table></body></html>"""
    read = extract(page.encode("latin-1"), "offer")
    assert read.kind == "html"
    assert [line for line in read.text.splitlines() if line] == [
        "Offer", "## Prices & terms", "Fenêtre isolée", "now", "- one", "- two", "a\t1"
    ]  # fmt: skip


def test_a_page_nested_beyond_reason_notes_that_something_is_left_out() -> None:
    assert extract(b"<html>" + b"<div>" * 1000 + b"deep", "deep.html").text == "deep"
    read = extract(b"<html>seen" + b"<div>" * 50_000 + b"lost", "deeper.html")
    assert (read.text, read.truncated) == ("seen", True)
    assert read.notice is not None
    assert "nested too deeply" in read.notice


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_csv_is_handed_on_with_commas_from_every_delimiter_and_charset() -> None:
    table = 'Artikel;Preis;Größe\n"Bolzen; M8";3,50;groß\n\nMutter;2,00;\n'
    read = extract(table.encode("cp1252"), "artikel.csv")
    assert (read.kind, read.media_type) == ("csv", "text/csv")
    assert read.text == 'Artikel,Preis,Größe\nBolzen; M8,"3,50",groß\nMutter,"2,00"'


@pytest.mark.parametrize(
    ("name", "claimed_type", "table"),
    [("a.tsv", "", "x\ty\n1\t2\n"), ("a.txt", "text/csv", "x,y\n1,2\n"), ("a.csv", "", "x|y\r\n1|2\r\n")],
)
def test_tables_are_known_by_name_or_claimed_type(name: str, claimed_type: str, table: str) -> None:
    read = extract(table.encode(), name, claimed_type=claimed_type)
    assert (read.kind, read.text) == ("csv", "x,y\n1,2")


def test_a_row_beyond_the_cell_limit_is_cut_within() -> None:
    read = extract(b"a,b\n1,2,3,4,5\n6,7\n", "wide.csv", ExtractLimits(cells=5))
    assert (read.text, read.truncated) == ("a,b\n1,2,3", True)


def test_a_csv_of_one_column_is_left_alone() -> None:
    assert extract(b"name\nAda\nBob\n", "names.csv").text == "name\nAda\nBob"


def test_a_quote_that_is_never_closed_does_not_swallow_the_file() -> None:
    table = 'name,size\n"Monitor 24,1\n' + "row,2\n" * 30_000
    read = extract(table.encode(), "broken.csv")
    assert read.notice is not None
    assert "plain text" in read.notice
    assert read.text.startswith('name,size\n"Monitor 24,1\nrow,2\n')
