"""Documents that are the same for all callers: made once, with an ETag, compressed for callers that accept it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping

from starlette.responses import Response


class Document:
    """A page, script or description. `headers` go with every answer."""

    def __init__(self, content: bytes, media_type: str, headers: Mapping[str, str]) -> None:
        self._plain = content
        self._packed = gzip.compress(content, 6, mtime=0)
        self._media_type = media_type
        self._headers = {**headers, "vary": "Accept-Encoding"}
        self._tag = hashlib.blake2b(content, digest_size=12).hexdigest()

    def answer(self, asked: Mapping[str, str]) -> Response:
        """The document, or 304 for who has it; `asked` are the request's headers."""
        packed = accepts_gzip(asked.get("accept-encoding", ""))
        # The two forms are different bytes, and so have different tags (RFC 9110, section 8.8.3.3).
        tags = {False: f'"{self._tag}"', True: f'"{self._tag}-gzip"'}
        headers = {**self._headers, "etag": tags[packed]}
        known = asked.get("if-none-match")
        if any(matches(known, tag) for tag in tags.values()):
            return Response(status_code=304, headers=headers)
        if not packed:
            return Response(self._plain, headers=headers, media_type=self._media_type)
        return Response(
            self._packed, headers={**headers, "content-encoding": "gzip"}, media_type=self._media_type
        )


def matches(known: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this tag: in its list, weak or strong, or as `*`, which any is."""
    given = {_bare(each) for each in (known or "").split(",")}
    return "*" in given or _bare(tag) in given


def _bare(tag: str) -> str:
    return tag.strip().removeprefix("W/")


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip: by its name or by *, and not with a weight of 0."""
    weights: dict[str, float] = {}
    for part in accepted.split(","):
        coding, _, parameter = part.strip().partition(";")
        name, _, value = parameter.strip().partition("=")
        try:
            weights[coding.strip().lower()] = float(value) if name.strip().lower() == "q" else 1.0
        except ValueError:
            weights[coding.strip().lower()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0
