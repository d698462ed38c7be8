"""Document datastores on both databases: indexed by a durable run, searched by their words, cited by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.rows import OrgScope
from runyard_common.datastores import queries as store
from runyard_common.datastores.service import datastores
from runyard_common.datastores.service.datastores import Upload
from runyard_common.files import open_files
from runyard_common.identity.service.identity import secret_key
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.values.errors import Conflict, InvalidRequest, NotFound
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import calls, reply, results_of, tools_of
from tests.unit.workers.documents import documents

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture
async def declared(database_url: str, tmp_path: Path) -> AsyncIterator[Declared]:
    async with declared_agents(database_url, tmp_path / "home") as declared:
        declared.publish()
        yield declared


def library(declared: Declared, name: str = "handbook", org: str | None = None) -> str:
    sealer = Sealer(secret_key(declared.settings))
    made: store.DatastoreRow = declared.site.transact(
        lambda tx: datastores.create(tx, sealer, org or declared.site.org, name, "documents")
    )
    return made.id


def add(
    declared: Declared, datastore: str, name: str, data: bytes, org: str | None = None
) -> tuple[str, str]:
    """A document that is to be indexed: its id and its task's."""
    kept = open_files(str(declared.site.files)).put(data)
    upload = Upload(f"file-{name}", kept.sha256, name, "application/octet-stream", len(data))
    document, task_id = declared.site.transact(
        lambda tx: datastores.index_document(tx, org or declared.site.org, datastore, upload)
    )
    assert document.status == "processing"
    return document.id, task_id


async def indexed(
    declared: Declared, datastore: str, name: str, data: bytes, org: str | None = None
) -> dict[str, Any]:
    """Add a document and wait until it is indexed; the run's output."""
    _, task_id = add(declared, datastore, name, data, org)
    task = await declared.site.ended(task_id, seconds=40)
    assert task.status is Status.COMPLETED, task.error
    return dict(task.output)


def stored(declared: Declared, document_id: str) -> store.DocumentRow:
    """The document as it is stored."""
    with declared.site.store.read() as conn:
        found = store.document(OrgScope(conn, declared.site.org), document_id)
    assert found is not None
    return found


async def search(declared: Declared, datastore: str, query: str) -> list[dict[str, Any]]:
    """What the agent gets back for a search."""
    declared.server.answer(calls(search_documents={"query": query}), reply("Found."))
    await declared.completed("Look it up.", datastores=[{"id": datastore, "name": "x"}])
    return list(orjson.loads(results_of(declared.server.requests[-1])[-1])["passages"])


async def test_a_document_is_indexed_and_its_passages_are_found_and_cited(declared: Declared) -> None:
    handbook = library(declared)
    pdf = documents.pdf("Holidays are thirty days a year.", "Expenses need receipts above 20 euros.")
    document_id, task_id = add(declared, handbook, "handbook.pdf", pdf)
    assert (await declared.site.ended(task_id, seconds=40)).output["passages"] == 2
    document = stored(declared, document_id)
    assert (document.status, document.indexed_at is not None) == ("indexed", True)
    (first, *_) = await search(declared, handbook, "receipt for an expense?")
    assert (first["document"], first["page"], first["cite"]) == ("handbook.pdf", 2, "[1]")
    assert "receipts above 20 euros" in first["text"]
    assert "handbook" in tools_of(declared.server.requests[0])["search_documents"]["description"]


async def test_the_better_match_comes_first_and_marks_in_the_query_do_no_harm(declared: Declared) -> None:
    notes = library(declared)
    await indexed(declared, notes, "a.txt", b"The printer is on the second floor.")
    await indexed(
        declared, notes, "b.txt", b"The coffee machine and the second printer are on the third floor."
    )
    found = await search(declared, notes, "\"third\" -floor* (coffee) AND NOT: 'printer'")
    assert [one["document"] for one in found] == ["b.txt", "a.txt"]
    assert await search(declared, notes, "submarine") == []


async def test_a_search_sees_only_the_datastores_of_the_run_and_the_organisation(declared: Declared) -> None:
    mine, other = library(declared, "mine"), library(declared, "other")
    foreign = library(declared, "foreign", org="another-org")
    await indexed(declared, mine, "mine.txt", b"The secret word is apple.")
    await indexed(declared, other, "other.txt", b"The secret word is banana.")
    await indexed(declared, foreign, "foreign.txt", b"The secret word is cherry.", org="another-org")
    assert [one["document"] for one in await search(declared, mine, "secret word")] == ["mine.txt"]
    task = await declared.run("Look.", datastores=[{"id": foreign, "name": "x"}])
    assert task.error is not None
    assert task.error["code"] == "datastore_not_found"


async def test_a_document_that_cannot_be_read_reports_why(declared: Declared) -> None:
    notes = library(declared)
    document_id, task_id = add(declared, notes, "broken.pdf", documents.pdf("text")[:200])
    task = await declared.site.ended(task_id, seconds=40)
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("file_corrupt", "input")
    document = stored(declared, document_id)
    assert (document.status, document.error) == ("failed", task.error["message"])


async def test_an_image_is_found_by_the_words_of_its_name(declared: Declared) -> None:
    notes = library(declared)
    await indexed(declared, notes, "floor_plan-2nd.png", documents.plain_png(40, 30))
    (found,) = await search(declared, notes, "the plan of the floor")
    assert found["document"] == "floor_plan-2nd.png"
    assert "40 × 30 pixels" in found["text"]


async def test_indexing_again_replaces_the_passages(declared: Declared) -> None:
    notes = library(declared)
    document_id, task_id = add(declared, notes, "a.txt", b"An old word: ancient.")
    await declared.site.ended(task_id, seconds=40)
    row = stored(declared, document_id)
    declared.site.transact(lambda tx: store.set_passages(tx, row, [("A new word: modern.", None)]))
    assert await search(declared, notes, "ancient") == []
    assert len(await search(declared, notes, "modern")) == 1


async def test_a_removed_datastore_is_gone_with_its_passages(declared: Declared) -> None:
    notes = library(declared)
    await indexed(declared, notes, "a.txt", b"Some words.")
    declared.site.transact(lambda tx: datastores.remove(tx, declared.site.org, notes))
    with declared.site.store.read() as conn:
        assert store.search(declared.site.db, conn, declared.site.org, [notes], "words", 5) == []
    with pytest.raises(NotFound):
        declared.site.transact(lambda tx: datastores.remove(tx, declared.site.org, notes))


async def test_what_cannot_be_a_datastore_is_refused(declared: Declared) -> None:
    sealer, org = Sealer(secret_key(declared.settings)), declared.site.org

    def refused(*given: Any) -> str | None:
        with pytest.raises(InvalidRequest) as caught:
            declared.site.transact(lambda tx: datastores.create(tx, sealer, org, *given))
        assert caught.value.code == "invalid_datastore"
        return caught.value.field

    assert refused("", "documents") == "name"
    assert refused("x", "spreadsheet") == "type"
    assert refused("x", "database") == "metadata.connectionString"
    assert refused("x", "database", "file:///etc/passwd") == "metadata.connectionString"
    database = declared.site.transact(
        lambda tx: datastores.create(tx, sealer, org, "db", "database", "postgresql://h/d")
    )
    with pytest.raises(Conflict):
        add(declared, database.id, "a.txt", b"words")
