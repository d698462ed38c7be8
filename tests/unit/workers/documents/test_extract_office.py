"""Reading Word documents and Excel workbooks, good, cut off, lying and exploding ones."""

from __future__ import annotations

import zlib
from datetime import date, datetime
from io import BytesIO
from zipfile import ZipFile

import pytest
from docx import Document
from openpyxl import Workbook

from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import ExtractLimits
from tests.unit.workers.documents import documents
from tests.unit.workers.documents.refusals import refusal

# ── Word ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_word_document_is_read_in_order() -> None:
    document = Document()
    document.add_heading("Contract", 1)
    document.add_paragraph("Between Ada and Bob.")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ("Item", "Price", "Bolts", "3,50 €"), strict=True):
        cell.text = text
    document.add_paragraph("first", style="List Bullet")
    document.sections[0].header.paragraphs[0].text = "Acme Ltd"
    read = extract(documents.saved(document), "contract.docx")
    assert (read.kind, read.media_type[-8:], read.pages) == ("docx", "document", None)
    assert [(part.label, part.text) for part in read.sections] == [
        (None, "# Contract\nBetween Ada and Bob.\nItem | Price\nBolts | 3,50 €\n- first"),
        ("header", "Acme Ltd"),
    ]


def test_content_controls_insertions_and_text_boxes_are_read_and_deletions_are_not() -> None:
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = f"""<w:document xmlns:w="{word}"
      xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:body>
      <w:sdt><w:sdtContent><w:p><w:r><w:t>from a control</w:t></w:r></w:p></w:sdtContent></w:sdt>
      <w:p><w:r><w:t xml:space="preserve">kept </w:t></w:r><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>
        <w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>
        <w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom></w:p>
      <w:p><w:r><mc:AlternateContent>
        <mc:Choice><w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></mc:Choice>
        <mc:Fallback><w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></mc:Fallback>
      </mc:AlternateContent></w:r></w:p>
    </w:body></w:document>"""
    read = extract(
        documents.repacked(documents.docx("x"), {"word/document.xml": body.encode()}), "tracked.docx"
    )
    assert [line for line in read.text.splitlines() if line] == [
        "from a control",
        "kept inserted",
        "in a box",
    ]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/vnd.ms-word.document.macroEnabled.main+xml",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
        "application/vnd.ms-word.template.macroEnabledTemplate.main+xml",
    ],
)
def test_templates_and_documents_with_macros_are_read_as_documents(content_type: str) -> None:
    package = documents.docx("the text")
    with ZipFile(BytesIO(package)) as parts:
        types = parts.read("[Content_Types].xml").decode()
    document_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    assert document_type in types
    changed = types.replace(document_type, content_type).encode()
    assert extract(documents.repacked(package, {"[Content_Types].xml": changed}), "a.docm").text == "the text"


def test_a_program_renamed_to_docx_is_called_what_it_is() -> None:
    error = refusal(documents.executable(), "report.docx")
    assert error.code == "file_unsupported"
    assert "Windows Executable" in error.problem


@pytest.mark.parametrize("kind", ["docx", "xlsx"])
def test_a_truncated_office_file_is_refused(kind: str) -> None:
    whole = documents.docx("text" * 50) if kind == "docx" else documents.xlsx([["a", 1]])
    for share in (0.3, 0.6, 0.95):
        assert refusal(whole[: int(len(whole) * share)], f"cut.{kind}").code == "file_corrupt"


def test_an_office_file_with_broken_xml_is_refused() -> None:
    broken = documents.repacked(documents.docx("x"), {"word/document.xml": b"<w:document><oops"})
    assert refusal(broken, "broken.docx").code == "file_corrupt"


def test_an_office_file_under_a_password_is_refused() -> None:
    assert refusal(documents.compound_file("EncryptedPackage"), "locked.xlsx").code == "file_encrypted"


# ── Excel ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_workbook_is_read_sheet_by_sheet() -> None:
    book = Workbook()
    costs = book.worksheets[0]
    costs.title = "Costs"
    costs.append(["Item", "Price", "Paid", "Due"])
    costs.append(["Bolts, M8", 3.5, True, date(2026, 3, 1)])
    costs.append([])
    costs.append(["Nuts", 2.0, None, datetime(2026, 3, 1, 14, 30)])  # noqa: DTZ001 - workbooks have no zones
    hidden = book.create_sheet("Margins")
    hidden.append(["Nuts", 0.25])
    hidden.sheet_state = "hidden"
    read = extract(documents.saved(book), "costs.xlsx")
    assert (read.kind, read.media_type[-5:], read.pages) == ("xlsx", "sheet", 2)
    assert [(part.label, part.text) for part in read.sections] == [
        ("sheet Costs", 'Item,Price,Paid,Due\n"Bolts, M8",3.5,TRUE,2026-03-01\nNuts,2,,2026-03-01 14:30:00'),
        ("sheet Margins (hidden)", "Nuts,0.25"),
    ]


def test_a_formula_whose_value_was_not_saved_is_shown_as_a_formula() -> None:
    assert extract(documents.xlsx([[1, 2, "=A1+B1"]]), "sum.xlsx").sections[0].text == "1,2,=A1+B1"


def test_a_formula_whose_value_was_saved_is_shown_as_its_value() -> None:
    sheet = (
        f'<worksheet xmlns="{documents.MAIN_NS}"><sheetData><row r="1"><c r="A1"><v>1</v></c>'
        '<c r="B1"><f>A1*2</f><v>2</v></c></row></sheetData></worksheet>'
    )
    book = documents.repacked(documents.xlsx([[1]]), {"xl/worksheets/sheet1.xml": sheet.encode()})
    assert extract(book, "sum.xlsx").sections[0].text == "1,2"


def test_a_large_workbook_is_cut_at_the_cell_limit_with_a_notice() -> None:
    book = Workbook()
    for title in ("A", "B"):
        sheet = book.create_sheet(title)
        for number in range(10):
            sheet.append([title, number])
    book.remove(book.worksheets[0])
    read = extract(documents.saved(book), "big.xlsx", ExtractLimits(cells=6))
    assert [part.text for part in read.sections] == ["A,0\nA,1\nA,2"]
    assert read.truncated
    assert read.notice == "Only the first 6 cells are included. Only the first 1 of 2 sheets are included."


def test_a_sheet_of_a_hundred_megabytes_is_refused_by_its_size() -> None:
    sheet = documents.sheet_of_megabytes(100, varied=True)
    error = refusal(sheet, "year.xlsx")
    assert error.code == "file_too_large"
    assert "unpacks to 10" in error.problem, "its size is named"
    assert "64 MB" in error.problem, "and the limit"
    wide = ExtractLimits(unpacked_bytes=200 * 2**20, cells=50)
    assert len(extract(sheet, "year.xlsx", wide).sections[0].text.splitlines()) == 5, "it is a real sheet"


def test_a_sheet_that_packs_far_better_than_text_is_called_a_bomb() -> None:
    bomb = documents.sheet_of_megabytes(100, varied=False)
    assert len(bomb) < 1_000_000
    assert refusal(bomb, "bomb.xlsx").code == "zip_bomb"


def test_a_part_that_lies_about_its_size_is_read_no_further_than_declared() -> None:
    """Declared as the first kilobyte of what is really 50 MB: parsers would unpack all of it in one go."""
    inside = b"<worksheet>" + b" " * (50 * 2**20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(inside) + packer.flush()
    liar = documents.with_packed_part(
        documents.xlsx([[1]]), "xl/worksheets/sheet1.xml", packed, 1024, zlib.crc32(inside[:1024])
    )
    assert refusal(liar, "liar.xlsx").code == "file_corrupt"


def test_a_package_of_countless_parts_is_refused() -> None:
    many = documents.repacked(documents.xlsx([[1]]), {f"xl/junk/{number}.bin": b"" for number in range(300)})
    assert refusal(many, "many.xlsx", ExtractLimits(parts=200)).code == "zip_bomb"


def test_a_cell_at_the_far_corner_costs_no_more_than_the_limit() -> None:
    sheet = (
        f'<worksheet xmlns="{documents.MAIN_NS}"><sheetData>'
        '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'
    )
    book = documents.repacked(documents.xlsx([[1]]), {"xl/worksheets/sheet1.xml": sheet.encode()})
    assert extract(book, "corner.xlsx", ExtractLimits(cells=10_000)).truncated


def test_entities_that_multiply_do_not_grow_the_text() -> None:
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(8)
    )
    laughs = (
        f'<!DOCTYPE x [{entities}]><worksheet xmlns="{documents.MAIN_NS}"><sheetData><row><c t="inlineStr">'
        "<is><t>&i;</t></is></c></row></sheetData></worksheet>"
    )
    book = documents.repacked(documents.xlsx([[1]]), {"xl/worksheets/sheet1.xml": laughs.encode()})
    assert refusal(book, "laughs.xlsx").code == "file_corrupt"
