"""Presentations, OpenDocument, rich text, mail and packed files: read in order, and within the limits."""

from __future__ import annotations

import gzip
import zlib
from email.message import EmailMessage
from io import BytesIO
from zipfile import ZipFile

import pytest
from pptx import Presentation
from pptx.util import Inches

from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import ExtractLimits
from runyard_workers.documents.extraction_pool import ExtractionPool
from tests.unit.workers.documents import documents
from tests.unit.workers.documents.refusals import refusal

NAMESPACES = " ".join(
    f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
    for short, long in (
        ("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"),
        ("presentation", "presentation"),
    )
)  # fmt: skip


def pptx(slides: int = 1) -> bytes:
    made = Presentation()
    for number in range(1, slides + 1):
        slide = made.slides.add_slide(made.slide_layouts[5])
        slide.shapes.title.text = f"Quarter {number}"
        box = slide.shapes.add_textbox(Inches(1), Inches(2), Inches(4), Inches(1))
        box.text_frame.text = "Up by ten\nDown by two"
        table = slide.shapes.add_table(1, 2, Inches(1), Inches(4), Inches(4), Inches(1)).table
        table.cell(0, 0).text, table.cell(0, 1).text = "Bolts", "3,50 €"
        slide.notes_slide.notes_text_frame.text = "Smile here."
    out = BytesIO()
    made.save(out)
    return out.getvalue()


def odf(kind: str, body: str, **parts: str) -> bytes:
    out = BytesIO()
    content = (
        f"<office:document-content {NAMESPACES}><office:body>{body}</office:body></office:document-content>"
    )
    with ZipFile(out, "w") as package:
        package.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        package.writestr("content.xml", content)
        for name, part in parts.items():
            package.writestr(name.replace("__", "/") + ".xml", part)
    return out.getvalue()


ODT = odf(
    "text",
    """<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>
    <text:h text:outline-level="2">Contract</text:h>
    <text:p>Between<text:s text:c="2"/>Ada<text:tab/>and <text:span>Bob</text:span>.</text:p>
    <text:list><text:list-item><text:p>first</text:p></text:list-item></text:list>
    <table:table><table:table-row><table:table-cell><text:p>Bolts</text:p></table:table-cell>
    <table:table-cell><text:p>3,50 €</text:p></table:table-cell></table:table-row></table:table></office:text>""",
)
ODP = odf(
    "presentation",
    """<office:presentation><draw:page><draw:frame><draw:text-box><text:p>Hello</text:p></draw:text-box></draw:frame>
    <presentation:notes><text:p>Smile.</text:p></presentation:notes></draw:page></office:presentation>""",
)
ODS = odf(
    "spreadsheet",
    """<office:spreadsheet><table:table table:name="Costs"><table:table-row>
    <table:table-cell office:value-type="string"><text:p>Bolts</text:p></table:table-cell>
    <table:table-cell office:value-type="float" office:value="3.5"><text:p>3,50 €</text:p></table:table-cell>
    <table:table-cell table:number-columns-repeated="16000"/></table:table-row>
    <table:table-row table:number-rows-repeated="1000000"><table:table-cell/></table:table-row>
    <table:table-row>
    <table:table-cell office:value-type="date" office:date-value="2026-01-02"><text:p>2.1.</text:p></table:table-cell>
    </table:table-row></table:table></office:spreadsheet>""",
)


def mail() -> bytes:
    message = EmailMessage()
    message["From"], message["To"] = "Ada Lovelace <ada@example.org>", "support@example.org"
    message["Subject"] = "Größe der Schrauben"
    message.set_content("They do not fit.\n\nAda")
    message.add_alternative("<p>They do <b>not</b> fit.</p>", subtype="html")
    message.add_attachment(b"x" * 2**20, maintype="application", subtype="pdf", filename="bolts.pdf")
    return bytes(message)


def test_a_presentation_is_read_slide_by_slide_with_its_notes() -> None:
    read = extract(pptx(2), "quarter.pptx")
    assert (read.kind, read.pages) == ("pptx", 2)
    assert [(part.label, part.text) for part in read.sections][:2] == [
        ("slide 1", "Quarter 1\nUp by ten\nDown by two\nBolts | 3,50 €"),
        ("notes of slide 1", "Smile here."),
    ]


def test_of_many_slides_the_first_are_read() -> None:
    read = extract(pptx(4), "long.pptx", ExtractLimits(pages=2))
    assert (read.truncated, read.notice) == (True, "Only the first 2 of 4 slides are included.")


def test_an_opendocument_text_is_read_in_order() -> None:
    read = extract(ODT, "contract.odt")
    assert read.kind == "odt"
    assert read.text == "## Contract\nBetween  Ada\tand Bob.\n- first\nBolts | 3,50 €"


def test_an_opendocument_presentation_is_read_slide_by_slide() -> None:
    assert extract(ODP, "talk.odp").text == "[slide 1]\nHello\n\n[notes of slide 1]\nSmile."


def test_an_opendocument_spreadsheet_is_read_as_rows() -> None:
    read = extract(ODS, "costs.ods")
    assert (read.kind, read.text) == ("ods", "[sheet Costs]\nBolts,3.5\n2026-01-02")


def test_repeated_cells_and_rows_are_bounded() -> None:
    cell = '<table:table-cell office:value-type="float" office:value="1" table:number-columns-repeated="99999999"/>'
    row = f'<table:table-row table:number-rows-repeated="99999999">{cell}</table:table-row>'
    bomb = odf("spreadsheet", f"<office:spreadsheet><table:table>{row}</table:table></office:spreadsheet>")
    read = extract(bomb, "bomb.ods", ExtractLimits(cells=5000))
    assert (read.truncated, len(read.text) < 20_000) == (True, True)


def test_an_encrypted_opendocument_is_named_one() -> None:
    locked = odf("text", "", **{"META-INF__manifest": "<manifest:encryption-data/>"})
    assert refusal(locked, "locked.odt").code == "file_encrypted"


@pytest.mark.parametrize("name", ["contract.odt", "talk.odp", "costs.ods", "quarter.pptx"])
def test_a_package_that_is_cut_off_is_corrupt(name: str) -> None:
    data = {"contract.odt": ODT, "talk.odp": ODP, "costs.ods": ODS, "quarter.pptx": pptx()}[name]
    assert refusal(data[: len(data) // 2], name).code == "file_corrupt"


def test_entities_in_an_opendocument_are_not_expanded() -> None:
    out = BytesIO()
    with ZipFile(out, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        package.writestr("content.xml", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>')
    assert refusal(out.getvalue(), "evil.odt").code == "file_corrupt"


def test_rich_text_gives_its_words() -> None:
    rtf = rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}\f0 Gr\'fc\'dfe, \b Ada\b0 .\par Second line.}"
    read = extract(rtf, "letter.rtf")
    assert (read.kind, read.text.strip()) == ("rtf", "Grüße, Ada.\nSecond line.")


def test_a_mail_gives_its_headers_its_text_and_the_names_of_its_attachments() -> None:
    read = extract(mail(), "complaint.eml")
    assert read.kind == "email"
    for words in (
        "From: Ada Lovelace <ada@example.org>",
        "Subject: Größe der Schrauben",
        "They do not fit.",
        "Ada",
    ):
        assert words in read.text
    assert "[Attached to the mail, not read: bolts.pdf, application/pdf, 1 MB]" in read.text


def test_a_mail_of_html_alone_and_one_with_a_forwarded_mail_are_read() -> None:
    message = EmailMessage()
    message["Subject"] = "Fwd"
    message.set_content("<h1>See below</h1>", subtype="html")
    inner = EmailMessage()
    inner["Subject"] = "The first"
    inner.set_content("Original words.")
    message.add_attachment(inner)
    text = extract(bytes(message), "fwd.eml").text
    assert all(words in text for words in ("# See below", "Subject: The first", "Original words."))


def test_a_mail_with_broken_headers_is_read_as_far_as_it_goes() -> None:
    broken = (
        b"From: =?utf-99?q?x?= <\xff@@>\nSubject: hi\nContent-Type: text/plain; charset=none\n\nWords \xe4."
    )
    assert "Words" in extract(broken, "broken.eml").text


def test_a_text_that_mentions_headers_is_a_text() -> None:
    assert extract(b"From: the desk of Ada\nHello", "note.txt").kind == "text"


def test_a_packed_table_is_read_as_a_table() -> None:
    read = extract(gzip.compress(b"a;b\n1;2\n") + gzip.compress(b"3;4\n"), "table.csv.gz")
    assert (read.kind, read.text) == ("csv", "a,b\n1,2\n3,4")


def test_a_packed_text_that_explodes_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    error = refusal(bomb, "bomb.gz", ExtractLimits(unpacked_bytes=10 * 2**20))
    assert error.code == "zip_bomb"


def test_a_packed_text_that_is_cut_off_or_packed_twice_is_refused() -> None:
    packed = gzip.compress(zlib.compress(b"x") * 100)
    assert refusal(packed[:-4], "cut.gz").code == "file_corrupt"
    twice = gzip.compress(gzip.compress(b"a,b\n"))
    assert refusal(twice, "twice.csv.gz").code == "file_unsupported"


def test_a_refusal_names_what_is_read() -> None:
    error = refusal(b"\x7fELF\x02\x01\x01" + bytes(64), "program")
    assert all(kind in error.message for kind in ("PPTX", "ODT", "RTF", "EML", "gzip"))


@pytest.mark.processes
def test_the_child_process_reads_them_too() -> None:
    with ExtractionPool(1) as pool:
        files = {"a.pptx": pptx(), "a.odt": ODT, "a.rtf": b"{\\rtf1 Words}", "a.eml": mail()}
        files["a.csv.gz"] = gzip.compress(b"a,b\n")
        assert [pool.extract(data, name).kind for name, data in files.items()] == [
            "pptx", "odt", "rtf", "email", "csv",
        ]  # fmt: skip


def test_a_word_document_still_is_one() -> None:
    assert extract(documents.docx("words"), "a.docx").kind == "docx"
