"""Real files made on the spot, good and hostile, for the tests of file reading."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from docx import Document
from docx.document import Document as WordDocument
from openpyxl import Workbook
from PIL import Image
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, StreamObject
from reportlab.pdfgen.canvas import Canvas

MAIN_NS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def pdf(*pages: str) -> bytes:
    out = BytesIO()
    canvas = Canvas(out)
    for text in pages:
        canvas.drawString(72, 720, text)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def pdf_with_form(**fields: str) -> bytes:
    out = BytesIO()
    canvas = Canvas(out)
    canvas.drawString(72, 740, "Application")
    for row, (name, value) in enumerate(fields.items()):
        canvas.acroForm.textfield(name=name, value=value, x=72, y=700 - 30 * row)
    canvas.save()
    return out.getvalue()


def encrypted(document: bytes, user_password: str) -> bytes:
    writer = PdfWriter(clone_from=BytesIO(document))
    writer.encrypt(user_password, "the owner's", algorithm="AES-256")
    return written(writer)


def pdf_of_stream(operators: bytes) -> bytes:
    """One page drawn by these operators, packed as hard as possible."""
    writer = PdfWriter()
    page = writer.add_blank_page(612, 792)
    font = DictionaryObject(
        {NameObject(key): NameObject(value) for key, value in
         (("/Type", "/Font"), ("/Subtype", "/Type1"), ("/BaseFont", "/Helvetica"))}
    )  # fmt: skip
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
    )
    stream = StreamObject()
    stream._data = zlib.compress(operators, 9)
    stream[NameObject("/Filter")] = NameObject("/FlateDecode")
    page[NameObject("/Contents")] = writer._add_object(stream)
    return written(writer)


def written(writer: PdfWriter) -> bytes:
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def saved(document: WordDocument | Workbook) -> bytes:
    out = BytesIO()
    document.save(out)
    return out.getvalue()


def docx(*paragraphs: str) -> bytes:
    document = Document()
    for text in paragraphs:
        document.add_paragraph(text)
    return saved(document)


def xlsx(rows: list[list[Any]], title: str = "Sheet") -> bytes:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = title
    for row in rows:
        sheet.append(row)
    return saved(book)


def image(form: str, size: tuple[int, int] = (40, 20), mode: str = "RGB", **options: Any) -> bytes:
    out = BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(out, form, **options)
    return out.getvalue()


def repacked(package: bytes, new: dict[str, bytes]) -> bytes:
    """The package with these parts put in, or in place of those it had."""
    out = BytesIO()
    with ZipFile(BytesIO(package)) as source, ZipFile(out, "w", ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, new[name] if name in new else source.read(name))
        for name in new.keys() - set(source.namelist()):
            target.writestr(name, new[name])
    return out.getvalue()


def with_packed_part(package: bytes, name: str, packed: bytes, size: int, crc: int) -> bytes:
    """The package with a part that is packed already, and declared to be so large and of that checksum."""
    out = BytesIO()
    with ZipFile(BytesIO(package)) as source, ZipFile(out, "w") as target:
        for other in source.namelist():
            if other != name:
                target.writestr(other, source.read(other))
        target.writestr(name, packed)  # stored as it is: the headers are then made to say "deflated"
    archive = bytearray(out.getvalue())
    for signature, method_at, crc_at in ((b"PK\x03\x04", 8, 14), (b"PK\x01\x02", 10, 16)):
        at = archive.rindex(signature)  # the last part
        struct.pack_into("<H", archive, at + method_at, 8)
        struct.pack_into("<III", archive, at + crc_at, crc, len(packed), size)
    return bytes(archive)


def sheet_of_megabytes(megabytes: int, *, varied: bool) -> bytes:
    """A workbook whose one sheet unpacks to that size; varied rows pack as real ones do, others as in a bomb."""
    rng = random.Random(7)
    rows, row = "", "".join(f"<c><v>{column * 111111}</v></c>" for column in range(10))
    while len(rows) < 2**20:
        if varied:
            row = "".join(f"<c><v>{rng.randrange(10**9)}</v></c>" for _ in range(10))
        rows += f"<row>{row}</row>"
    block = rows.encode()
    head = f'<worksheet xmlns="{MAIN_NS}"><sheetData>'.encode()
    return _sheet(head, block, megabytes * 2**20 // len(block) + 1, b"</sheetData></worksheet>")


def _sheet(head: bytes, block: bytes, times: int, tail: bytes) -> bytes:
    """The block is packed once and repeated: pieces that end in a full flush may be strung together."""
    packed, crc = b"", 0
    for piece, count in ((head, 1), (block, times)):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed += (packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)) * count
        for _ in range(count):
            crc = zlib.crc32(piece, crc)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed += packer.compress(tail) + packer.flush()
    size = len(head) + len(block) * times + len(tail)
    return with_packed_part(xlsx([["x"]]), "xl/worksheets/sheet1.xml", packed, size, zlib.crc32(tail, crc))


def compound_file(stream: str) -> bytes:
    """What marks a file of Office 97-2003 (or what wraps an encrypted newer one): mark and name of a stream."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512) + stream.encode("utf-16-le")


def executable() -> bytes:
    """The beginning of a Windows program."""
    return b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + bytes(range(256)) * 8


def plain_png(width: int, height: int) -> bytes:
    """An image of one colour: a few kilobytes that decode to three bytes a pixel."""
    out = BytesIO()
    Image.new("RGB", (width, height), "navy").save(out, "PNG")
    return out.getvalue()
