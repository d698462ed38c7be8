"""Reading files: every kind that is read, and every way in which a file may be broken or hostile."""

from __future__ import annotations

import json
import zlib
from datetime import date, datetime
from io import BytesIO
from zipfile import ZipFile

import pytest
from docx import Document
from openpyxl import Workbook
from PIL import Image
from pypdf import PdfWriter

from tests.unit.workers.agent import documents
from workers.agent.extract import extract
from workers.agent.extraction import REMEDIES, Extracted, ExtractionError, ExtractLimits, clean


def refusal(data: bytes, name: str, limits: ExtractLimits | None = None) -> ExtractionError:
    with pytest.raises(ExtractionError) as caught:
        extract(data, name, limits or ExtractLimits())
    error = caught.value
    assert error.code in REMEDIES
    assert name in error.message, "the file is named"
    assert error.remedy in error.message, "what to do is said"
    assert error.details == {"file": name}
    return error


# ── PDF ──────────────────────────────────────────────────────────────────────────────────────────────


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


def test_a_long_pdf_is_cut_at_the_page_limit_and_says_so() -> None:
    read = extract(documents.pdf(*"abcdef"), "long.pdf", ExtractLimits(pages=2))
    assert [part.text for part in read.sections] == ["a", "b"]
    assert (read.pages, read.truncated) == (6, True)
    assert read.notice == "Only the first 2 of 6 pages are included."


def test_a_scan_without_text_says_so() -> None:
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
    ("lost", "says"), [("page", "only 2 of its 3 pages"), ("content", "content of page 2 is missing")]
)
def test_a_pdf_whose_later_objects_were_cut_off_is_refused(lost: str, says: str) -> None:
    """As a download that broke off in a PDF made for the web: its index comes first and is whole."""
    writer = PdfWriter(clone_from=BytesIO(documents.pdf("here", "gone", "here")))
    page = writer.pages[1]
    pointer = page.indirect_reference if lost == "page" else page.raw_get("/Contents")
    assert pointer is not None
    writer._objects[pointer.idnum - 1] = None
    error = refusal(documents.written(writer), "cut.pdf")
    assert error.code == "file_corrupt"
    assert says in error.problem


def test_a_pdf_whose_page_unpacks_without_end_is_refused() -> None:
    bomb = documents.pdf_of_stream(b"BT /F1 12 Tf (A) Tj ET" + b" " * 3 * 2**20)
    assert len(bomb) < 10_000
    assert refusal(bomb, "bomb.pdf", ExtractLimits(unpacked_bytes=2**20)).code == "zip_bomb"
    assert extract(documents.pdf_of_stream(b"BT /F1 12 Tf (A) Tj ET\n"), "tame.pdf").text == "[page 1]\nA"


# ── Word ─────────────────────────────────────────────────────────────────────────────────────────────


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


# ── Excel ────────────────────────────────────────────────────────────────────────────────────────────


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


def test_a_large_workbook_is_cut_at_the_cell_limit_and_says_so() -> None:
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
    assert "unpacks to 10" in error.problem, "its size is told"
    assert "64 MB" in error.problem, "and the limit"
    wide = ExtractLimits(unpacked_bytes=200 * 2**20, cells=50)
    assert len(extract(sheet, "year.xlsx", wide).sections[0].text.splitlines()) == 5, "it is a real sheet"


def test_a_sheet_that_packs_far_better_than_text_is_called_a_bomb() -> None:
    bomb = documents.sheet_of_megabytes(100, varied=False)
    assert len(bomb) < 1_000_000
    assert refusal(bomb, "bomb.xlsx").code == "zip_bomb"


def test_a_part_that_lies_about_its_size_is_read_no_further_than_it_says() -> None:
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


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "charset", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32"]
)
def test_text_is_read_whatever_its_charset(charset: str) -> None:
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


def test_the_charset_is_told_by_the_letters_wherever_they_stand() -> None:
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
def test_the_name_tells_kinds_of_text_apart_and_no_more(name: str, kind: str, media_type: str) -> None:
    text = json.dumps({"BM": "not a bitmap", "%PDF-": "no PDF"})
    read = extract(text.encode(), name)
    assert (read.kind, read.media_type, read.text) == (kind, media_type, text)


def test_a_pdf_is_a_pdf_whatever_its_name_and_claimed_type() -> None:
    read = extract(documents.pdf("hello"), "notes.txt", claimed_type="text/plain")
    assert (read.kind, read.text) == ("pdf", "[page 1]\nhello")


def test_a_pdf_after_junk_is_a_pdf() -> None:
    assert extract(b"\x00\x00mail header\r\n" + documents.pdf("hello"), "a.pdf").kind == "pdf"


def test_long_text_is_cut_at_the_character_limit_and_says_so() -> None:
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


def test_a_page_nested_beyond_reason_says_that_something_is_left_out() -> None:
    assert extract(b"<html>" + b"<div>" * 1000 + b"deep", "deep.html").text == "deep"
    read = extract(b"<html>seen" + b"<div>" * 50_000 + b"lost", "deeper.html")
    assert (read.text, read.truncated) == ("seen", True)
    assert read.notice is not None
    assert "nested too deeply" in read.notice


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_csv_is_handed_on_with_commas_whatever_its_delimiter_and_charset() -> None:
    table = 'Artikel;Preis;Größe\n"Bolzen; M8";3,50;groß\n\nMutter;2,00;\n'
    read = extract(table.encode("cp1252"), "artikel.csv")
    assert (read.kind, read.media_type) == ("csv", "text/csv")
    assert read.text == 'Artikel,Preis,Größe\nBolzen; M8,"3,50",groß\nMutter,"2,00"'


@pytest.mark.parametrize(
    ("name", "claimed_type", "table"),
    [("a.tsv", "", "x\ty\n1\t2\n"), ("a.txt", "text/csv", "x,y\n1,2\n"), ("a.csv", "", "x|y\r\n1|2\r\n")],
)
def test_tables_are_told_by_name_or_claimed_type(name: str, claimed_type: str, table: str) -> None:
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


# ── images ───────────────────────────────────────────────────────────────────────────────────────────


def picture(read: Extracted) -> Image.Image:
    assert read.image is not None
    shown = Image.open(BytesIO(read.image.data))
    assert shown.size == (read.image.width, read.image.height)
    assert Image.MIME[shown.format or ""] == read.image.media_type
    return shown


@pytest.mark.parametrize(
    ("form", "media_type"), [("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif"), ("WEBP", "webp")]
)
def test_an_image_that_models_take_is_passed_on_as_it_is(form: str, media_type: str) -> None:
    data = documents.image(form)
    read = extract(data, "photo.dat")
    assert (read.kind, read.media_type, read.text) == ("image", f"image/{media_type}", "")
    assert read.image is not None
    assert (read.image.data, read.image.media_type) == (data, f"image/{media_type}")
    assert picture(read).size == (40, 20)


@pytest.mark.parametrize("form", ["BMP", "TIFF"])
def test_an_image_that_models_do_not_take_becomes_a_png(form: str) -> None:
    read = extract(documents.image(form), "scan")
    assert read.media_type == f"image/{form.lower()}"
    assert picture(read).format == "PNG"


def test_a_large_image_is_scaled_down() -> None:
    read = extract(documents.image("JPEG", (300, 150)), "photo.jpg", ExtractLimits(image_edge=100))
    assert picture(read).size == (100, 50)
    assert not read.truncated


def test_an_image_of_many_bytes_is_packed_tighter() -> None:
    data = documents.image("PNG", (200, 200))
    read = extract(data, "noise.png", ExtractLimits(image_bytes=len(data) // 2))
    assert picture(read).format == "JPEG"
    assert len(picture(read).tobytes()) == 200 * 200 * 3
    assert refusal(data, "noise.png", ExtractLimits(image_bytes=500)).code == "image_too_large"


def test_a_photo_lying_on_its_side_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert picture(extract(documents.image("JPEG", (40, 20), exif=exif), "phone.jpg")).size == (20, 40)


def test_only_the_first_frame_of_an_animation_is_passed_on() -> None:
    out = BytesIO()
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "green", "blue")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    read = extract(out.getvalue(), "dance.gif")
    assert picture(read).convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert read.truncated
    assert read.notice == "Only the first of 3 frames or pages of the image is included."


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_truncated_image_is_refused(form: str) -> None:
    data = documents.image(form, (100, 100))
    assert refusal(data[: len(data) // 2], "cut.img").code == "file_corrupt"


@pytest.mark.parametrize("size", [(8_000, 8_000), (12_000, 12_000), (60_000, 60_000)])
def test_an_image_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    tiny = bytearray(documents.image("PNG", (1, 1), "1"))
    tiny[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    tiny[29:33] = zlib.crc32(tiny[12:29]).to_bytes(4, "big")
    assert refusal(bytes(tiny), "bomb.png").code == "image_too_large"


# ── neither fish nor fowl ────────────────────────────────────────────────────────────────────────────


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"", "nothing.pdf").code == "file_empty"


def test_a_file_beyond_the_size_limit_is_refused_unread() -> None:
    error = refusal(b"%PDF-" + bytes(100), "big.pdf", ExtractLimits(input_bytes=100))
    assert error.code == "file_too_large"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(documents.compound_file("WordDocument"), "as DOCX or PDF", id="doc"),
        pytest.param(documents.compound_file("Workbook"), "as XLSX or CSV", id="xls"),
        pytest.param(documents.compound_file("Unheard Of"), "Office 97-2003", id="other compound file"),
        pytest.param(b"{\\rtf1\\ansi hello}", "as DOCX or PDF", id="rtf"),
        pytest.param(b"\x7fELF\x02\x01\x01" + bytes(64), "ELF", id="program"),
        pytest.param(b"Rar!\x1a\x07\x00" + bytes(64), "RAR", id="rar"),
        pytest.param(bytes(range(256)) * 4, "unknown kind", id="noise"),
        pytest.param(b"mostly text" * 50 + bytes(range(1, 9)), "unknown kind", id="text with binary"),
    ],
)
def test_what_is_not_read_is_refused_with_what_to_do(data: bytes, says: str) -> None:
    error = refusal(data, "old.file")
    assert error.code == "file_unsupported"
    assert says in error.message


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        pytest.param({"a.txt": b"hello"}, "one by one", id="zip"),
        pytest.param({"mimetype": b"application/vnd.oasis.opendocument.text"}, "OpenDocument", id="odt"),
        pytest.param(
            {"[Content_Types].xml": b"presentationml.presentation.main+xml"}, "presentations", id="pptx"
        ),
        pytest.param(
            {"[Content_Types].xml": b"vnd.ms-excel.sheet.binary.macroEnabled.main"}, "XLSB", id="xlsb"
        ),
    ],
)
def test_other_zip_containers_are_refused_with_what_to_do(parts: dict[str, bytes], says: str) -> None:
    out = BytesIO()
    with ZipFile(out, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    error = refusal(out.getvalue(), "some.docx")
    assert error.code == "file_unsupported"
    assert says in error.message


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
