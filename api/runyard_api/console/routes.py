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


def _asset(name: str, media_type: str) -> Document:
    """A file of the console, read once."""
    return Document((Path(__file__).parent / name).read_bytes(), media_type, HEADERS)


_PAGE: Final = _asset("console.html", "text/html")
#: By the name in their path; the page asks for them.
_PARTS: Final = {
    "console.css": _asset("console.css", "text/css"),
    **{
        name: _asset(name, "text/javascript")
        for name in (
            "console.js",
            "page.js",
            "forms.js",
            "run.js",
            "traceback.js",
            "sign_in.js",
            "account.js",
        )
    },
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


@routes.get(
    "/console/{part}",
    None,
    headers=("If-None-Match",),
    answers=(
        Answer(200, "A script.", _TEXT, "text/javascript", headers=("ETag",)),
        Answer(200, "The stylesheet.", _TEXT, "text/css", headers=("ETag",)),
        _SAME,
    ),
    errors=(404,),
)
async def console_part(call: Call) -> Response:
    """Get a script of the console, or its stylesheet."""
    part = _PARTS.get(call.params["part"])
    if part is None:
        raise NotFound("The console has no such part.", code="route_not_found")
    return part.answer(call.headers)
