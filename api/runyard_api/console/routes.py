"""Serves the ops console. The page holds no data: its script asks the native API, by cookie or by a typed-in key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.responses import Response

from runyard_api.http.call import Call
from runyard_api.http.compressed import Document
from runyard_api.http.operations import Answer, Front, Routes
from runyard_common.values.errors import NotFound

#: Nothing from elsewhere, nothing inline, no markup made from text (trusted types), in no frame.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}

routes = Routes(Front("console"), "console")


_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_ASSETS: Final = Path(__file__).parent / "assets"


def _asset(path: Path) -> Document:
    """A file of the console, read once."""
    return Document(path.read_bytes(), _TYPES[path.suffix], HEADERS)


_PAGE: Final = _asset(_ASSETS / "console.html")
#: By their paths under `/console`; the page asks for them.
_PARTS: Final = {
    path.relative_to(_ASSETS).as_posix(): _asset(path)
    for path in sorted(_ASSETS.rglob("*"))
    if path.suffix in (".css", ".js")
}
_TEXT: Final = {"type": "string"}
_SAME: Final = Answer(304, "It has not changed.")


@routes.get(
    "/console",
    None,
    headers=("If-None-Match",),
    answers=(Answer(200, "The page.", _TEXT, "text/html", headers=("ETag",)), _SAME),
)
async def console(call: Call) -> Response:
    """Open the ops console in a browser.

    People sign in with e-mail and password (a cookie), or with an API key that is kept until the tab is closed.
    """
    return _PAGE.answer(call.headers)


_PART_ANSWERS: Final = (
    Answer(200, "A script.", _TEXT, "text/javascript", headers=("ETag",)),
    Answer(200, "The stylesheet.", _TEXT, "text/css", headers=("ETag",)),
    _SAME,
)


@routes.get("/console/{part}", None, headers=("If-None-Match",), answers=_PART_ANSWERS, errors=(404,))
async def console_part(call: Call) -> Response:
    """Get a script of the console, or its stylesheet."""
    return _part(call, call.params["part"])


@routes.get(
    "/console/{folder}/{script}", None, headers=("If-None-Match",), answers=_PART_ANSWERS, errors=(404,)
)
async def console_part_of_a_folder(call: Call) -> Response:
    """Get the script of one of the console's pages, or of a library that it uses."""
    return _part(call, f"{call.params['folder']}/{call.params['script']}")


def _part(call: Call, name: str) -> Response:
    part = _PARTS.get(name)
    if part is None:
        raise NotFound("The console has no such part.", code="route_not_found")
    return part.answer(call.headers)
