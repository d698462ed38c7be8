"""OpenDocument texts, presentations and spreadsheets: paragraphs, lists and tables in their order.

All three have their content in one XML part of one vocabulary (OASIS OpenDocument 1.3, part 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from zipfile import ZipFile

from lxml import etree
from lxml.etree import _Element as Element

from runyard_workers.documents.extraction import Draft
from runyard_workers.documents.formats.package import Edit, repack
from runyard_workers.documents.formats.table import render

_URN = "urn:oasis:names:tc:opendocument:xmlns:"
_UNCHANGED = Edit(re.compile("(?!)"), re.compile(b"(?!)"), b"")
#: Blank cells within a row, and spaces in a line, that a file may ask for by one number.
_MOST_REPEATED = 1000


def _name(space: str, name: str) -> str:
    return f"{{{_URN}{space}:1.0}}{name}"


_BODY, _PARAGRAPH, _HEADING = _name("office", "body"), _name("text", "p"), _name("text", "h")
_LIST_ITEM, _TABLE, _PAGE = _name("text", "list-item"), _name("table", "table"), _name("drawing", "page")
_ROW, _NOTES = _name("table", "table-row"), _name("presentation", "notes")
_CELLS = {_name("table", "table-cell"), _name("table", "covered-table-cell")}
_SKIPPED = {
    _name("text", "tracked-changes"),
    _name("office", "forms"),
    _name("text", "sequence-decls"),
    _name("office", "annotation"),
    _NOTES,
}
_SIGNS = {_name("text", "tab"): "\t", _name("text", "line-break"): "\n"}
_SPACES = _name("text", "s")
_VALUES = {"date": "date-value", "time": "time-value", "boolean": "boolean-value"}


def read(data: bytes, draft: Draft) -> None:
    """Raises what `repack` raises, and ``file_encrypted``; content that is no XML is ``file_corrupt``."""
    with ZipFile(BytesIO(repack(data, draft, _UNCHANGED))) as parts:
        names = parts.namelist()
        manifest = parts.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in names else b""
        if b"encryption-data" in manifest:
            raise draft.error("file_encrypted", "the document is protected by a password")
        if "content.xml" not in names:
            raise draft.error("file_corrupt", "it holds no content")
        content = parts.read("content.xml")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    body = etree.fromstring(content, parser).find(_BODY)
    if body is None:
        raise draft.error("file_corrupt", "it holds no content")
    for document in body:
        {_name("office", "presentation"): _slides, _name("office", "spreadsheet"): _sheets}.get(
            str(document.tag), _text
        )(document, draft)


def _text(document: Element, draft: Draft) -> None:
    draft.add(_joined(_blocks(document), draft))


def _slides(document: Element, draft: Draft) -> None:
    pages = [child for child in document if child.tag == _PAGE]
    draft.pages = len(pages)
    if len(pages) > draft.limits.pages:
        draft.cut(f"Only the first {draft.limits.pages:,} of {len(pages):,} slides are included.")
    for number, page in enumerate(pages[: draft.limits.pages], 1):
        draft.add(_joined(_blocks(page), draft), f"slide {number}")
        for notes in page.iter(_NOTES):
            draft.add(_joined(_blocks(notes), draft), f"notes of slide {number}")


def _sheets(document: Element, draft: Draft) -> None:
    sheets = [child for child in document if child.tag == _TABLE]
    draft.pages = len(sheets)
    for index, sheet in enumerate(sheets):
        draft.tick()
        if draft.full or draft.truncated:
            draft.cut(f"Only the first {index} of {draft.pages} sheets are included.")
            break
        draft.add(render(_rows(sheet, draft), draft), f"sheet {sheet.get(_name('table', 'name'), index + 1)}")


def _joined(lines: Iterator[str], draft: Draft) -> str:
    kept, left = [], draft.limits.characters
    for line in lines:
        draft.tick()
        if left < 0:
            break
        kept.append(line)
        left -= len(line) + 1
    return "\n".join(kept)


def _blocks(container: Element, mark: str = "") -> Iterator[str]:
    for child in container:
        if child.tag == _HEADING:
            level = child.get(_name("text", "outline-level"), "1")
            yield "#" * (int(level) if level.isdigit() and 0 < int(level) < 10 else 1) + " " + _inline(child)
        elif child.tag == _PARAGRAPH:
            yield mark + _inline(child)
        elif child.tag == _LIST_ITEM:
            yield from _blocks(child, "- ")
        elif child.tag == _ROW:
            yield " | ".join(" ".join(_inline(cell).split()) for cell in child if cell.tag in _CELLS)
        elif child.tag not in _SKIPPED:
            yield from _blocks(child, mark)


def _inline(element: Element) -> str:
    """All text below an element, paragraphs in it (text boxes, notes) on lines of their own."""
    pieces = [element.text or ""]
    for child in element:
        if child.tag == _SPACES:
            pieces.append(" " * _number(child, "text", "c"))
        elif child.tag in _SIGNS:
            pieces.append(_SIGNS[child.tag])
        elif child.tag in (_PARAGRAPH, _HEADING):
            pieces.append(f"\n{_inline(child)}\n")
        elif child.tag not in _SKIPPED:
            pieces.append(_inline(child))
        pieces.append(child.tail or "")
    return "".join(pieces)


def _rows(sheet: Element, draft: Draft) -> Iterator[list[str]]:
    for row in sheet.iter(_ROW):
        cells = _cells(row)
        if cells:
            for _ in range(min(_number(row, "table", "number-rows-repeated"), draft.limits.cells)):
                yield cells


def _cells(row: Element) -> list[str]:
    """A row's values up to the last that is not blank; spreadsheets fill their rows up with repeated blanks."""
    found: list[str] = []
    blanks = 0
    for cell in row:
        if cell.tag not in _CELLS:
            continue
        value, times = _value(cell), _number(cell, "table", "number-columns-repeated")
        if not value:
            blanks += times
            continue
        found += [""] * min(blanks, _MOST_REPEATED)
        found += [value] * times
        blanks = 0
    return found


def _value(cell: Element) -> str:
    kind = cell.get(_name("office", "value-type"), "")
    stored = cell.get(_name("office", _VALUES.get(kind, "value" if kind != "string" else "string-value")))
    return stored if stored is not None else _inline(cell).strip()


def _number(element: Element, space: str, name: str) -> int:
    text = element.get(_name(space, name), "1")
    return min(int(text), _MOST_REPEATED) if text.isascii() and text.isdigit() and len(text) < 10 else 1
