"""Presentations: the text of each slide in the order of its shapes, its tables, and the notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE

from runyard_workers.documents.extraction import Draft
from runyard_workers.documents.formats.package import Edit, repack

_AS_PRESENTATION = Edit(  # templates, shows, and presentations with macros: nothing in them is run here
    part=re.compile(r"\[Content_Types\]\.xml"),
    pattern=re.compile(
        rb"application/vnd\.(?:openxmlformats-officedocument\.presentationml\.(?:template|slideshow)"
        rb"|ms-powerpoint\.\w+\.macroEnabled)\.main\+xml"
    ),
    replacement=b"application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml",
)
_DEEPEST_GROUP = 20


def read(data: bytes, draft: Draft) -> None:
    """Raises what `repack` raises; a presentation the library cannot open is ``file_corrupt``."""
    slides = list(Presentation(BytesIO(repack(data, draft, _AS_PRESENTATION))).slides)
    draft.pages = len(slides)
    if len(slides) > draft.limits.pages:
        draft.cut(f"Only the first {draft.limits.pages:,} of {len(slides):,} slides are included.")
    for number, slide in enumerate(slides[: draft.limits.pages], 1):
        draft.tick()
        if draft.full:
            break
        draft.add("\n".join(_lines(slide.shapes)), f"slide {number}")
        if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
            draft.add(frame.text, f"notes of slide {number}")


def _lines(shapes: Iterable[Any], depth: int = 0) -> Iterator[str]:
    for shape in shapes:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            if depth < _DEEPEST_GROUP:
                yield from _lines(shape.shapes, depth + 1)
        elif getattr(shape, "has_table", False):
            for row in shape.table.rows:
                yield " | ".join(" ".join(cell.text.split()) for cell in row.cells)
        elif shape.has_text_frame and shape.text_frame.text.strip():
            yield shape.text_frame.text.replace("\v", "\n")
