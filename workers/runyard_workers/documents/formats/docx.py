"""Word documents: paragraphs, lists and tables in reading order, then headers, footers, notes and comments.

The XML is walked here because the library's own view leaves out the text of content controls, text boxes
and tracked insertions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

from docx import Document
from docx.document import Document as WordDocument
from docx.opc.constants import RELATIONSHIP_TYPE as REL
from docx.opc.part import XmlPart
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml
from lxml.etree import _Element as Element

from runyard_workers.documents.extraction import Draft
from runyard_workers.documents.formats.package import Edit, repack

_AS_DOCUMENT = Edit(  # templates, and documents with macros: nothing in them is run here
    part=re.compile(r"\[Content_Types\]\.xml"),
    pattern=re.compile(
        rb"application/vnd\.(?:openxmlformats-officedocument\.wordprocessingml\.template|ms-word\.\w+\.\w+)"
        rb"\.main\+xml"
    ),
    replacement=b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
)
_ASIDES = {
    REL.HEADER: "header",
    REL.FOOTER: "footer",
    REL.FOOTNOTES: "footnotes",
    REL.ENDNOTES: "endnotes",
    REL.COMMENTS: "comments",
}
_PARAGRAPH, _TABLE, _ROW, _CELL, _TEXT = (qn(f"w:{name}") for name in ("p", "tbl", "tr", "tc", "t"))
_BREAKS = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
_SKIPPED = {  # deleted or moved away, repeated for older readers, or settings
    *(
        qn(f"w:{name}")
        for name in ("del", "moveFrom", "pPr", "rPr", "tblPr", "trPr", "tcPr", "sdtPr", "sectPr")
    ),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}


def read(data: bytes, draft: Draft) -> None:
    """Raises what `repack` raises; a document the library cannot open is ``file_corrupt``."""
    document = Document(BytesIO(repack(data, draft, _AS_DOCUMENT)))
    levels = _heading_levels(document)
    draft.add(_joined(_blocks(document.element.body, levels), draft))
    seen = set()
    for relation in document.part.rels.values():
        label = _ASIDES.get(relation.reltype)
        if label is None or relation.is_external or draft.full:
            continue
        part = relation.target_part
        root = part.element if isinstance(part, XmlPart) else parse_xml(part.blob)
        text = _joined(_blocks(root, levels), draft)
        if (label, text) not in seen:  # first page, even and odd pages often say the same
            seen.add((label, text))
            draft.add(text, label)


def _joined(lines: Iterator[str], draft: Draft) -> str:
    kept, left = [], draft.limits.characters
    for line in lines:
        draft.tick()
        if left < 0:
            break
        kept.append(line)
        left -= len(line) + 1
    return "\n".join(kept)


def _heading_levels(document: WordDocument) -> dict[str, int]:
    """Level by style id: the ids are in the author's language, the names in English."""
    levels = {"Title": 1}
    for style in document.styles:
        if found := re.fullmatch(r"heading ([1-9])", (style.name or "").lower()):
            levels[style.style_id] = int(found[1])
    return levels


def _blocks(container: Element, levels: dict[str, int]) -> Iterator[str]:
    for child in container:
        if child.tag == _PARAGRAPH:
            yield _prefix(child, levels) + _inline(child)
        elif child.tag == _TABLE:
            yield from _rows(child)
        elif child.tag not in _SKIPPED:
            yield from _blocks(child, levels)


def _prefix(paragraph: Element, levels: dict[str, int]) -> str:
    style = paragraph.find(f"{qn('w:pPr')}/{qn('w:pStyle')}")
    name = style.get(qn("w:val"), "") if style is not None else ""
    if name in levels:
        return "#" * levels[name] + " "
    numbered = paragraph.find(f"{qn('w:pPr')}/{qn('w:numPr')}") is not None
    return "- " if numbered or name.startswith("List") else ""


def _rows(table: Element) -> Iterator[str]:
    for child in table:
        if child.tag == _ROW:
            yield " | ".join(_cells(child))
        elif child.tag not in _SKIPPED:
            yield from _rows(child)


def _cells(row: Element) -> Iterator[str]:
    for child in row:
        if child.tag == _CELL:
            yield " ".join(_inline(child).split())
        elif child.tag not in _SKIPPED:
            yield from _cells(child)


def _inline(element: Element) -> str:
    """All text below an element, on lines of their own where paragraphs (text boxes, cells) stand in it."""
    pieces = []
    for child in element:
        if child.tag == _TEXT:
            pieces.append(child.text or "")
        elif child.tag in _BREAKS:
            pieces.append(_BREAKS[child.tag])
        elif child.tag in (_PARAGRAPH, _ROW):
            pieces.append("\n" + _inline(child) + "\n")
        elif child.tag not in _SKIPPED:
            pieces.append(_inline(child))
    return "".join(pieces)
