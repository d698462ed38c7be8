"""Tools over datastores: named SQL queries, and search through documents with passages to cite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.rows import OrgScope
from runyard_common.datastores import queries as datastores
from runyard_common.datastores.queries import DatastoreRow
from runyard_common.datastores.service import datastores as service
from runyard_common.identity.service import identity
from runyard_common.values.errors import NotFound
from runyard_workers.agent.failures import BadOptions
from runyard_workers.agent.plan import Plan, Query
from runyard_workers.agent.services import Services
from runyard_workers.agent.sql import (
    MOST_CHARACTERS,
    Caps,
    QueryFailed,
    Source,
    count_parameters,
    open_source,
)
from runyard_workers.agent.tools.toolbox import Call, Tool, ToolFailure
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.isolation.threads import in_engine_thread

CAPS: Final = Caps()
SEARCH: Final = "search_documents"
_MOST_PASSAGES: Final = 20
_VALUE: Final = {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True, slots=True)
class _Database:
    name: str
    connection: str


class DatastoreTools:
    """The tools of one run over the datastores it names."""

    def __init__(self, services: Services, attempt: Attempt, plan: Plan) -> None:
        self._services = services
        self._attempt = attempt
        self._plan = plan
        self._sources: dict[str, Source] = {}
        self._own_server: str | None = None

    async def tools(self) -> list[Tool]:
        """A tool per query, and one search over all document stores. `BadOptions` for a datastore that is not."""
        if not self._plan.datastores:
            if self._plan.queries:
                raise BadOptions("Queries need a database among `datastores`.", field="queries")
            return []
        stores = await in_engine_thread(self._load)
        databases = {
            store.id: _Database(store.name, connection)
            for store, connection in stores
            if store.type == "database"
        }
        documents = {store.id: store.name for store, _ in stores if store.type == "documents"}
        tools = [self._query(query, databases, index) for index, query in enumerate(self._plan.queries)]
        return tools + ([self._search(documents)] if documents else [])

    def _load(self) -> list[tuple[DatastoreRow, str]]:
        """The run's datastores, each with its connection string, "" for one of documents."""
        found: list[tuple[DatastoreRow, str]] = []
        sealer: Sealer | None = None
        with self._services.store.read() as conn:
            self._own_server = datastores.server_identity(conn)
            for index, one in enumerate(self._plan.datastores):
                wanted = str(one.get("id") or one.get("name") or "")
                try:
                    row = service.find(OrgScope(conn, self._attempt.task.org_id), wanted)
                except NotFound as missing:
                    raise BadOptions(
                        missing.message, code=missing.code, field=f"datastores[{index}]"
                    ) from missing
                opened = ""
                if row.connection is not None:
                    sealer = sealer or identity.sealer(self._services.settings)
                    opened = sealer.open(row.connection)
                found.append((row, opened))
        return found

    # -- queries -------------------------------------------------------------------------------------------

    def _query(self, query: Query, databases: Mapping[str, _Database], index: int) -> Tool:
        chosen = {k: v for k, v in databases.items() if query.datastore in (None, k, v.name)}
        if not chosen:
            raise BadOptions(
                f"The query {query.name!r} has no database to run on; name one in `datastores`.",
                code="datastore_not_found",
                field=f"queries[{index}]",
            )
        if len(query.sql) > MOST_CHARACTERS:
            raise BadOptions(
                f"The query {query.name!r} has more than {MOST_CHARACTERS:,} characters; shorten it.",
                code="invalid_query",
                field=f"queries[{index}]",
            )
        # Only MySQL reads strings and comments otherwise; whichever the database is, the count must fit it.
        mysql = all(database.connection.startswith(("mysql", "mariadb")) for database in chosen.values())
        parameters = _parameters(query, count_parameters(query.sql, mysql=mysql), chosen)

        async def run(call: Call) -> Any:
            arguments = dict(call.arguments)
            wanted = arguments.pop("datastore", None)
            id_ = next((k for k, v in chosen.items() if wanted in (k, v.name)), next(iter(chosen)))
            values = (
                [arguments[name] for name in query.parameters]
                if query.parameters
                else arguments.get("params")
            )
            try:
                source = self._source(id_, chosen[id_].connection)
                caps = replace(CAPS, bytes=self._services.settings.max_answer_bytes)
                rows = await source.query(query.sql, values or [], caps, self._attempt.run_blocking)
            except QueryFailed as error:
                raise ToolFailure(f"The query failed: {error}") from error
            return rows.to_json()

        return Tool(query.name, query.description, parameters, run, "read", source="query", seconds=60.0)

    def _source(self, id_: str, connection: str) -> Source:
        if id_ not in self._sources:
            folder = service.folder(self._services.settings.home, self._attempt.task.org_id)
            self._sources[id_] = open_source(connection, self._services.policy, folder, self._own_server)
        return self._sources[id_]

    # -- documents -----------------------------------------------------------------------------------------

    def _search(self, stores: Mapping[str, str]) -> Tool:
        names = ", ".join(stores.values())

        async def run(call: Call) -> Any:
            return await self._attempt.run_blocking(
                self._passages, list(stores), call.arguments["query"], int(call.arguments.get("limit") or 5)
            )

        description = f"Search the documents in {names}. Cite the passages you use by their `cite` mark."
        return Tool(SEARCH, description, _SEARCH_PARAMETERS, run, "read", source="documents")

    def _passages(self, stores: Sequence[str], query: str, most: int) -> dict[str, Any]:
        store, org_id = self._services.store, self._attempt.task.org_id
        with store.read() as conn:
            found = datastores.search(store.db, conn, org_id, stores, query, min(most, _MOST_PASSAGES))
            waiting = datastores.pending(conn, stores)
        passages = [
            {
                "cite": f"[{number}]",
                "document": one.filename,
                "document_id": one.document_id,
                "page": one.page,
                "passage": one.number,
                "text": one.text,
                "score": round(one.score, 4),
            }
            for number, one in enumerate(found, 1)
        ]
        note = {"note": f"{waiting} documents are still being indexed."} if waiting else {}
        return {"passages": passages, **note}


_SEARCH_PARAMETERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1, "description": "Words to look for."},
        "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_PASSAGES},
    },
    "required": ["query"],
    "additionalProperties": False,
}


def _parameters(query: Query, markers: int, databases: Mapping[str, _Database]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if query.parameters and len(query.parameters) != markers:
        raise BadOptions(
            f"The query {query.name!r} has {markers} placeholders (?) and {len(query.parameters)} parameters.",
            code="invalid_query",
            field="queries",
        )
    if query.parameters:
        properties = {name: dict(_VALUE) for name in query.parameters}
    elif markers:
        description = f"Values of the {markers} placeholders of: {query.sql}"
        properties["params"] = {
            "type": "array",
            "items": dict(_VALUE),
            "minItems": markers,
            "maxItems": markers,
            "description": description,
        }
    if len(databases) > 1:
        properties["datastore"] = {"enum": [database.name for database in databases.values()]}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
