"""What the extraction pool and its children say to each other: a JSON header and a body of bytes.

Nothing is pickled: a child that a file has taken over can lie about the file, but run nothing in the worker.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import Any, BinaryIO

from runyard_workers.documents.extraction import (
    Extracted,
    ExtractionError,
    ExtractLimits,
    ImageContent,
    Section,
)

Message = tuple[dict[str, Any], bytes]

_LENGTHS = struct.Struct(">II")
_MAX_BYTES = 256 * 2**20


def write(stream: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    """Send one message."""
    encoded = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(encoded), len(body)))
    stream.write(encoded)
    stream.write(body)
    stream.flush()


def read(stream: BinaryIO) -> Message:
    """Receive one message; `EOFError` if the other side is gone, `ValueError` if it sends nonsense."""
    header_bytes, body_bytes = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if header_bytes + body_bytes > _MAX_BYTES:
        raise ValueError("message too long")
    header = json.loads(_exactly(stream, header_bytes))
    return header, _exactly(stream, body_bytes)


def request(data: bytes, name: str, limits: ExtractLimits, claimed_type: str) -> Message:
    """The message that asks for a file to be read."""
    return {"name": name, "claimed_type": claimed_type, "limits": asdict(limits)}, data


def result(extracted: Extracted) -> Message:
    """The message that carries the content of a file."""
    image = extracted.image
    header = {
        "kind": extracted.kind,
        "media_type": extracted.media_type,
        "sections": [[section.text, section.label] for section in extracted.sections],
        "pages": extracted.pages,
        "truncated": extracted.truncated,
        "notice": extracted.notice,
        "image": [image.media_type, image.width, image.height] if image else None,
    }
    return header, image.data if image else b""


def failure(error: ExtractionError) -> Message:
    """The message that carries why a file cannot be read."""
    return {"error": [error.code, error.name, error.problem, error.remedy]}, b""


def answer(header: dict[str, Any], body: bytes) -> Extracted:
    """What a `result` message carried; raises what a `failure` message carried."""
    if error := header.get("error"):
        raise ExtractionError(*error)
    image = header["image"]
    return Extracted(
        kind=header["kind"],
        media_type=header["media_type"],
        sections=tuple(Section(text, label) for text, label in header["sections"]),
        pages=header["pages"],
        truncated=header["truncated"],
        image=ImageContent(body, *image) if image else None,
        notice=header["notice"],
    )


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
