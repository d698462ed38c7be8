"""The native front: its prefixes, how it writes times and pages, and the parameters its lists share."""

from __future__ import annotations

import base64
import binascii
import functools
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ConfigDict, Field
from starlette.responses import Response

from runyard_api.http.call import Call
from runyard_api.http.operations import Front, H, Handler, Routes, by_bearer_or_cookie, refusals
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest
from runyard_common.values.ids import is_uuid
from runyard_common.values.models import Model

PREFIXES: Final = ("/api/v1", "/v1")
#: Tasks and answer links also answer at the root.
ROOTED: Final = (*PREFIXES, "")
BASE: Final = PREFIXES[0]
#: What a text is that holds a date-time, for documents.
DATE_TIME: Final[dict[str, Any]] = {"format": "date-time"}


def moment(description: str) -> Any:
    """A field that may hold a date-time."""
    return Field(None, max_length=64, description=description, json_schema_extra=DATE_TIME)


def listing(words: Iterable[str]) -> dict[str, Any]:
    """What a text is that lists some of these words, separated by commas, for documents."""
    one = f"({'|'.join(words)})"
    return {"pattern": f"^{one}(,{one})*$"}


NATIVE: Final = Front("native", PREFIXES, authenticate=by_bearer_or_cookie, cookies=True)


@functools.lru_cache(4096)  # callers that poll are shown the same instants again
def when(instant: float | None) -> str | None:
    """Epoch seconds as an RFC 3339 date-time in UTC, to the microsecond."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def instant_of(text: str, field: str, latest: float = math.inf) -> float:
    """An RFC 3339 date-time (without a zone: UTC) in epoch seconds, not after `latest`.

    `InvalidRequest` invalid_field.
    """
    try:
        instant = _epoch(datetime.fromisoformat(text.replace(" ", "+")))  # a "+" that was not percent-encoded
        if instant > latest:
            raise ValueError(text)
        return instant
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{field}: write an RFC 3339 date-time such as 2026-01-31T12:00:00Z.",
            code="invalid_field",
            field=field,
        ) from None


def _epoch(moment: datetime) -> float:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


class Parameters(Model):
    """Query parameters: an unknown one is refused, so that a typo does not silently ask for everything."""

    model_config = ConfigDict(extra="forbid")


class NoParameters(Parameters):
    """No query parameters."""


class NativeRoutes(Routes):
    """Operations of the native API. One that declares no query parameters refuses any.

    `errors` are statuses besides those of `refusals`.
    """

    def __init__(self, tag: str) -> None:
        super().__init__(NATIVE, tag)

    def on(self, method: str, path: str, permission: str | None, **options: Any) -> Callable[[H], H]:
        around = None if "query" in options else _without_parameters
        options = {"query": NoParameters} | options | {"errors": sorted(refusals(path, options))}
        return super().on(method, path, permission, around=around, **options)


async def _without_parameters(handler: Handler, call: Call) -> Response:
    call.query(NoParameters)
    return await handler(call)


class Paging(Parameters):
    """Which part of a list."""

    limit: int = Field(20, ge=1, le=bounds.LIST_ROWS.most, description="How many at most.")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the page before.")

    @property
    def before(self) -> str | None:
        """The id that the page begins after; `InvalidRequest` invalid_cursor."""
        if not self.cursor:
            return None
        found = uncursor(self.cursor)
        if not is_uuid(found) or found != found.lower():
            raise bad_cursor()
        return found


def cursor(id_: str) -> str:
    """An id as an opaque cursor."""
    return base64.urlsafe_b64encode(id_.encode()).decode().rstrip("=")


def uncursor(text: str) -> str:
    """What a cursor names; `InvalidRequest` invalid_cursor."""
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        found = ""
    if not found or not found.isprintable():
        raise bad_cursor()
    return found


def bad_cursor() -> InvalidRequest:
    """The refusal of a cursor that no page gave."""
    return InvalidRequest("This cursor is not one this server gave.", code="invalid_cursor", field="cursor")


def page(rows: list[Any], limit: int, ids: list[str], ended_early: bool = False) -> dict[str, Any]:
    """A page of at most `limit`; `rows` and their `ids` hold one more where there is more.

    `ended_early`: the rows are fewer because they are large (`Page.more`), and others follow.
    """
    more = ended_early or len(rows) > limit
    last = min(limit, len(ids)) - 1
    return {"data": rows[:limit], "has_more": more, "next_cursor": cursor(ids[last]) if more else None}
