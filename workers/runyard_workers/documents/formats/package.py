"""Office packages (ZIP): their XML parts, unpacked within the limits into a package that parsers may open.

Parsers take a ZIP's word about sizes and unpack a part in one go. Here every part is read in bounded pieces
first, so that what reaches a parser is as large as it looks; pictures and other media stay behind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from runyard_workers.documents.extraction import Draft, megabytes

_PIECE = 1 << 16
_BOMB_RATIO = 100  # text unpacks to ten or twenty times its packed size; the limit Apache POI sets, too


@dataclass(frozen=True, slots=True)
class Edit:
    """A change to the parts of a name, for the parser's sake: the first match of a pattern is replaced."""

    part: re.Pattern[str]
    pattern: re.Pattern[bytes]
    replacement: bytes


def repack(data: bytes, draft: Draft, edit: Edit) -> bytes:
    """The package with its XML parts stored unpacked (and edited) and all other parts empty.

    Raises ``zip_bomb``, ``file_too_large``, ``file_encrypted`` or ``file_corrupt``.
    """
    packed = BytesIO()
    try:
        with ZipFile(BytesIO(data)) as source, ZipFile(packed, "w", ZIP_STORED) as target:
            parts = _parts(source, draft)
            _check_declared(parts, draft)
            for info in parts:
                draft.tick()
                part = _unpack(source, info) if _is_text(info) else b""
                if edit.part.fullmatch(info.filename):
                    part = edit.pattern.sub(edit.replacement, part, count=1)
                target.writestr(info.filename, part)
    except (BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise draft.error("file_corrupt", "its ZIP container is damaged or cut off") from error
    return packed.getvalue()


def _parts(source: ZipFile, draft: Draft) -> list[ZipInfo]:
    parts = [info for info in source.infolist() if not info.is_dir()]
    if len(parts) > draft.limits.parts:
        raise draft.error("zip_bomb", f"it holds {len(parts):,} parts, the limit is {draft.limits.parts:,}")
    if len({info.filename for info in parts}) < len(parts):
        raise draft.error("file_corrupt", "its ZIP container holds two parts of the same name")
    if any(info.flag_bits & 1 for info in parts):
        raise draft.error("file_encrypted", "it is protected by a password")
    if any(info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for info in parts):
        raise draft.error("file_corrupt", "it is packed in a way that Office does not use")
    return parts


def _check_declared(parts: list[ZipInfo], draft: Draft) -> None:
    """The sizes a package declares are upper bounds: `_unpack` reads no further."""
    texts = [info for info in parts if _is_text(info)]
    size, packed = sum(info.file_size for info in texts), sum(info.compress_size for info in texts)
    limit = draft.limits.unpacked_bytes
    if size <= limit:
        return
    problem = f"it unpacks to {megabytes(size)} of text and tables, the limit is {megabytes(limit)}"
    raise draft.error("zip_bomb" if size > packed * _BOMB_RATIO else "file_too_large", problem)


def _is_text(info: ZipInfo) -> bool:
    return info.filename.lower().endswith((".xml", ".rels"))


def _unpack(source: ZipFile, info: ZipInfo) -> bytes:
    pieces = []
    with source.open(info) as stream:
        while piece := stream.read(_PIECE):
            pieces.append(piece)
    return b"".join(pieces)
