"""Reading files: PDFs, what is not read at all, and files that are two things at once."""

from __future__ import annotations

from io import BytesIO
from zipfile import ZipFile

import pytest
from pypdf import PdfWriter

from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import ExtractionError, ExtractLimits
from tests.unit.workers.documents import documents
from tests.unit.workers.documents.refusals import refusal

# ── PDF ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pdf_is_read_page_by_page() -> None:
    read = extract(documents.pdf("Invoice 42", "Total: 99 EUR for Müller"), "invoice.pdf")
    assert (read.kind, read.media_type, read.pages) == ("pdf", "application/pdf", 2)
    assert [(part.label, part.text) for part in read.sections] == [
        ("page 1", "Invoice 42"),
        ("page 2", "Total: 99 EUR for Müller"),
    ]
    assert read.text == "[page 1]\nInvoice 42\n\n[page 2]\nTotal: 99 EUR for Müller"
    assert not read.truncated


def test_what_was_filled_into_a_pdf_form_is_read() -> None:
    read = extract(documents.pdf_with_form(applicant="Ada Lovelace", city="London"), "form.pdf")
    assert read.sections[-1].label == "form fields"
    assert "applicant: Ada Lovelace" in read.text
    assert "city: London" in read.text


def test_a_long_pdf_is_cut_at_the_page_limit_with_a_notice() -> None:
    read = extract(documents.pdf(*"abcdef"), "long.pdf", ExtractLimits(pages=2))
    assert [part.text for part in read.sections] == ["a", "b"]
    assert (read.pages, read.truncated) == (6, True)
    assert read.notice == "Only the first 2 of 6 pages are included."


def test_a_scan_without_text_is_named_one() -> None:
    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    read = extract(documents.written(writer), "scan.pdf")
    assert (read.text, read.pages, read.truncated) == ("", 1, False)
    assert read.notice is not None
    assert "scan" in read.notice


def test_a_pdf_that_needs_a_password_is_refused() -> None:
    error = refusal(documents.encrypted(documents.pdf("secret"), "open sesame"), "locked.pdf")
    assert error.code == "file_encrypted"
    assert "Remove the password" in error.message


def test_a_pdf_that_only_its_owner_may_print_is_read() -> None:
    assert "not so secret" in extract(documents.encrypted(documents.pdf("not so secret"), ""), "a.pdf").text


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_pdf_is_refused(share: float) -> None:
    whole = documents.pdf("one", "two", "three")
    assert refusal(whole[: int(len(whole) * share)], "cut.pdf").code == "file_corrupt"


@pytest.mark.parametrize(
    ("lost", "expected"), [("page", "only 2 of its 3 pages"), ("content", "content of page 2 is missing")]
)
def test_a_pdf_whose_later_objects_were_cut_off_is_refused(lost: str, expected: str) -> None:
    """As a download that broke off in a PDF made for the web: its index comes first and is whole."""
    writer = PdfWriter(clone_from=BytesIO(documents.pdf("here", "gone", "here")))
    page = writer.pages[1]
    pointer = page.indirect_reference if lost == "page" else page.raw_get("/Contents")
    assert pointer is not None
    writer._objects[pointer.idnum - 1] = None
    error = refusal(documents.written(writer), "cut.pdf")
    assert error.code == "file_corrupt"
    assert expected in error.problem


def test_a_pdf_whose_page_unpacks_without_end_is_refused() -> None:
    bomb = documents.pdf_of_stream(b"BT /F1 12 Tf (A) Tj ET" + b" " * 3 * 2**20)
    assert len(bomb) < 10_000
    assert refusal(bomb, "bomb.pdf", ExtractLimits(unpacked_bytes=2**20)).code == "zip_bomb"
    assert extract(documents.pdf_of_stream(b"BT /F1 12 Tf (A) Tj ET\n"), "tame.pdf").text == "[page 1]\nA"


# ── neither fish nor fowl ───────────────────────────────────────────────────────────────────────────


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"", "nothing.pdf").code == "file_empty"


def test_a_file_beyond_the_size_limit_is_refused_unread() -> None:
    error = refusal(b"%PDF-" + bytes(100), "big.pdf", ExtractLimits(input_bytes=100))
    assert error.code == "file_too_large"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(documents.compound_file("WordDocument"), "as DOCX or PDF", id="doc"),
        pytest.param(documents.compound_file("Workbook"), "as XLSX or CSV", id="xls"),
        pytest.param(documents.compound_file("Unheard Of"), "Office 97-2003", id="other compound file"),
        pytest.param(b"\x7fELF\x02\x01\x01" + bytes(64), "ELF", id="program"),
        pytest.param(b"Rar!\x1a\x07\x00" + bytes(64), "RAR", id="rar"),
        pytest.param(bytes(range(256)) * 4, "unknown kind", id="noise"),
        pytest.param(b"mostly text" * 50 + bytes(range(1, 9)), "unknown kind", id="text with binary"),
    ],
)
def test_what_is_not_read_is_refused_with_what_to_do(data: bytes, expected: str) -> None:
    error = refusal(data, "old.file")
    assert error.code == "file_unsupported"
    assert expected in error.message


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param({"a.txt": b"hello"}, "one by one", id="zip"),
        pytest.param({"mimetype": b"application/vnd.oasis.opendocument.graphics"}, "OpenDocument", id="odg"),
        pytest.param(
            {"[Content_Types].xml": b"vnd.ms-excel.sheet.binary.macroEnabled.main"}, "XLSB", id="xlsb"
        ),
    ],
)
def test_other_zip_containers_are_refused_with_what_to_do(parts: dict[str, bytes], expected: str) -> None:
    out = BytesIO()
    with ZipFile(out, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    error = refusal(out.getvalue(), "some.docx")
    assert error.code == "file_unsupported"
    assert expected in error.message


def test_a_polyglot_is_what_it_begins_as() -> None:
    package = documents.docx("from the package")
    assert extract(documents.pdf("from the PDF") + package, "a.docx").text == "[page 1]\nfrom the PDF"
    image = documents.image("GIF")
    assert extract(image + package, "a.docx").kind == "image"
    assert extract(image + documents.pdf("x"), "a.pdf").kind == "image"
    assert refusal(documents.executable() + package, "a.docx").code == "file_unsupported"
    assert refusal(b"GIF89a=1;alert(1)//" + bytes(40), "a.gif").code == "file_corrupt"


def test_a_name_cannot_forge_the_message() -> None:
    with pytest.raises(ExtractionError) as caught:
        extract(b"", "../../etc/\x1b[31mred\nline\u202e" + "x" * 500)
    assert caught.value.name.startswith("[31mredlinexxx")
    assert len(caught.value.name) == 120


def test_a_document_that_takes_too_long_is_given_up_between_pages() -> None:
    assert refusal(documents.pdf(*"abc"), "slow.pdf", ExtractLimits(seconds=0)).code == "extraction_timeout"
