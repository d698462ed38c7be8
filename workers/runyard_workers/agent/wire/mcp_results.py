"""Results of MCP tools, in the shape that the protocol documents. Pure.

Source: Model Context Protocol specification, 2025-11-25, "Tools", "Tool Result".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from runyard_workers.agent.wire.text import clean, dump

#: Longest text of one result, in characters; the longest image, in characters of base64.
MOST_CHARACTERS: Final = 500_000
_MOST_IMAGE: Final = 7_000_000
#: What models see. Others are named to the agent, and left out.
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TEXTUAL: Final = ("text/", "application/json", "application/xml", "application/yaml")

Block = dict[str, Any]


def repaired(result: Block) -> Block:
    """The result with content that the library reads, and no longer than an agent can use."""
    given = result.get("content")
    blocks = given if isinstance(given, list) else [] if given is None else [given]
    kept = {"resultType": result["resultType"]} if isinstance(result.get("resultType"), str) else {}
    structured = result.get("structuredContent")
    if structured is not None and not isinstance(structured, dict):
        blocks, structured = blocks or [structured], None
    if structured is not None and len(dump(structured)) > MOST_CHARACTERS:
        blocks, structured = blocks or [structured], None
    content = _cut([_block(one) for one in blocks])
    more = {} if structured is None else {"structuredContent": structured}
    return {**kept, **more} | {"content": content, "isError": result.get("isError") in (True, "true", 1)}


def _cut(content: list[Block]) -> list[Block]:
    left, found = MOST_CHARACTERS, []
    for block in content:
        text = block.get("text")
        if not isinstance(text, str):
            found.append(block)
        elif left > 0:
            note = f"\n[Cut off: the first {left:,} of {len(text):,} characters.]" if len(text) > left else ""
            found.append(block | {"text": text[:left] + note})
            left -= len(text)
    return found


def _text(value: Any) -> Block:
    return {"type": "text", "text": clean(value) if isinstance(value, str) else dump(value).decode()}


def _block(one: Any) -> Block:
    """A block of content; one that cannot be shown as what it is becomes text that describes it."""
    if not isinstance(one, dict):
        return _text(one)
    make = _BLOCKS.get(str(one.get("type")))
    return _text(one) if make is None else make(one)


def _text_block(one: Block) -> Block:
    return _text("" if one.get("text") is None else one["text"])


def _image(one: Block) -> Block:
    return _picture(one.get("data"), one.get("mimeType"), "image")


def _audio(one: Block) -> Block:
    return _text(f"[A sound of the type {one.get('mimeType')} came with the result; it is not shown.]")


def _picture(data: Any, type_: Any, what: str) -> Block:
    kind = type_.partition(";")[0].strip().lower() if isinstance(type_, str) else ""
    if kind in _IMAGES and isinstance(data, str) and len(data) <= _MOST_IMAGE and _is_base64(data):
        return {"type": "image", "data": data, "mimeType": kind}
    size = len(data) if isinstance(data, str) else 0
    return _text(
        f"[An {what} of the type {type_}, {size:,} characters of base64, came with the result; it is not shown.]"
    )


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False


def _resource(one: Block) -> Block:
    resource = one.get("resource")
    if not isinstance(resource, dict):
        return _text(one)
    text, blob, type_ = resource.get("text"), resource.get("blob"), str(resource.get("mimeType") or "")
    if isinstance(text, str):
        return _text(text)
    if type_.startswith(_TEXTUAL) and isinstance(blob, str) and _is_base64(blob):
        return _text(base64.b64decode(blob).decode(errors="replace"))
    if isinstance(blob, str):
        return _picture(blob, type_ or None, f"attachment {resource.get('uri')}")
    return _text(one)


def _link(one: Block) -> Block:
    uri = one.get("uri")
    return _text(uri) if isinstance(uri, str) else _text(one)


_BLOCKS: Final[dict[str, Callable[[Block], Block]]] = {
    "text": _text_block,
    "image": _image,
    "audio": _audio,
    "resource": _resource,
    "resource_link": _link,
}
