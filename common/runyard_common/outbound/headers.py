"""Which headers a caller may add to the calls made for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from runyard_common.outbound.errors import HeaderRefused

MAX_COUNT: Final = 50
MAX_BYTES: Final = 8192

#: They frame the message or choose the virtual host: set by a caller, they could make the call another one.
_OURS: Final = frozenset({
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
    "expect", "accept-encoding", "content-encoding", "http2-settings", "via", "forwarded",
})  # fmt: skip
_OUR_PREFIXES: Final = ("proxy-", "webhook-", "x-forwarded-")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2, token
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")


def check_headers(headers: Mapping[str, str], *, field: str = "headers") -> None:
    """Refuse headers a caller may not set: `HeaderRefused` names it in `field`. Values are never quoted."""
    if len(headers) > MAX_COUNT:
        raise HeaderRefused(f"At most {MAX_COUNT} headers may be set.", reason="too_many", field=field)
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_BYTES:
        raise HeaderRefused(
            f"The headers have at most {MAX_BYTES} bytes in all.", reason="too_long", field=field
        )
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise HeaderRefused(
                "A header name has letters, digits and hyphens only.", reason="name", field=field
            )
        if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
            raise HeaderRefused(
                f"{name} is set by Runyard; leave it out.", reason="reserved", field=f"{field}.{name}"
            )
        if not _VALUE.fullmatch(value):
            raise HeaderRefused(
                f"The value of {name} has characters other than printable ASCII; encode them.",
                reason="value",
                field=f"{field}.{name}",
            )
