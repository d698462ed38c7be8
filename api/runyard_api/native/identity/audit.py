"""The audit log: who changed what, when, and by which front."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Paging, instant_of, moment, page, when
from runyard_common.identity.queries import identity
from runyard_common.identity.queries.identity import AuditFilter
from runyard_common.values.json_text import JsonObject

routes = NativeRoutes("audit")


class AuditQuery(Paging):
    """Which entries."""

    actor: str | None = Field(None, max_length=128, description="key:<id>, user:<id>, jwt:<sub>, system …")
    action: str | None = Field(None, max_length=64, description="One (key.create), or all of a noun (key).")
    object_id: str | None = Field(None, max_length=200, description="What was changed.")
    front: str | None = Field(None, max_length=16, description="The API surface it came by: native, …")
    since: str | None = moment("Not before this RFC 3339 date-time.")
    until: str | None = moment("Before this RFC 3339 date-time.")

    @property
    def wanted(self) -> AuditFilter:
        """As the store reads it; `InvalidRequest` invalid_field."""
        since = instant_of(self.since, "since") if self.since is not None else None
        until = instant_of(self.until, "until") if self.until is not None else None
        return AuditFilter(self.actor, self.action, self.object_id, self.front, since, until)


class AuditEntry(schemas.Shape):
    """One change."""

    id: str
    at: str
    actor: str
    front: str | None
    action: str
    object_id: str
    data: dict[str, Any] | None


class AuditPage(schemas.Shape):
    """A page of the audit log."""

    data: list[AuditEntry]
    has_more: bool
    next_cursor: str | None


def entry_json(row: identity.AuditEntry) -> JsonObject:
    body = {name: getattr(row, name) for name in ("id", "actor", "front", "action", "object_id", "data")}
    return body | {"at": when(row.at)}


@routes.get("/audit", "audit:read", query=AuditQuery, answers=[Answer(200, "A page of entries.", AuditPage)])
async def list_audit(call: Call) -> Response:
    """List what was changed in the organisation, by whom and by which front, newest first."""
    given = call.query(AuditQuery)
    rows = await call.read(identity.audit_page, given.limit + 1, given.before, given.wanted)
    return reply(page([entry_json(row) for row in rows], given.limit, [row.id for row in rows], rows.more))
