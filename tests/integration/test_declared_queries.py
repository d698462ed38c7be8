"""Queries over real databases: parameters bound, nothing written, rows and time capped, hosts guarded."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pymysql
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.datastores.service import datastores
from runyard_common.identity.service.identity import secret_key
from runyard_common.values.errors import InvalidRequest
from runyard_workers.agent.sql import Caps
from runyard_workers.agent.tools import datastores as tool
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import calls, reply, results_of, tools_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    async with declared_agents(url, tmp_path / "home", allow_private_urls=True) as declared:
        declared.publish()
        yield declared


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres), "mariadb"])
def shop_url(request: pytest.FixtureRequest, declared: Declared) -> str:
    """The connection string of a shop's database with three orders."""
    rows = [(1, "Ada", 10.5), (2, "Bob's", 20), (3, "Ada", 30)]
    if request.param == "sqlite":
        folder = datastores.folder(declared.home, declared.site.org)
        folder.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(folder / "shop.db") as db:
            db.execute("CREATE TABLE orders (id INTEGER, customer TEXT, total REAL)")
            db.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
        db.close()
        return "sqlite:///shop.db"
    if request.param == "mariadb":
        return mariadb_shop(request.getfixturevalue("mariadb_url"), rows)
    fresh: Callable[[], str] = request.getfixturevalue("fresh_database")
    url = fresh()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, customer TEXT, total NUMERIC)")
        connection.cursor().executemany("INSERT INTO orders VALUES (%s, %s, %s)", rows)
    return url


#: A statement that never ends, and the server's text when it ended it.
COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
ENDLESS = {
    "sqlite": (COUNTING, "took longer than 0.5 s"),
    "postgresql": (COUNTING, "statement timeout"),
    "mysql": (
        "SELECT sum(a.seq * b.seq) FROM seq_1_to_1000000 a, seq_1_to_1000000 b",
        "max_statement_time exceeded",
    ),
}


def mariadb_shop(url: str, rows: list[Any]) -> str:
    where = make_url(url)
    with pymysql.connect(
        host=where.host, port=where.port or 3306, user=where.username, password=where.password or "",
        database=where.database,
    ) as connection:  # fmt: skip
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE orders (id INTEGER, customer VARCHAR(40), total NUMERIC(10, 2))")
        cursor.executemany("INSERT INTO orders VALUES (%s, %s, %s)", rows)
        connection.commit()
    return url


def store(declared: Declared, url: str, name: str = "shop") -> dict[str, Any]:
    sealer = Sealer(secret_key(declared.settings))
    made = declared.site.transact(
        lambda tx: datastores.create(tx, sealer, declared.site.org, name, "database", url)
    )
    return {"id": made.id, "name": name}


def query(sql: str, **more: Any) -> dict[str, Any]:
    return {"name": "orders_of", "description": "Orders of a customer.", "query": sql} | more


async def asked(declared: Declared, where: dict[str, Any], sql: str, params: list[Any] | None = None) -> str:
    """What the agent gets back for a query."""
    arguments = {"params": params} if params else {}
    declared.server.answer(calls(orders_of=arguments), reply("Done."))
    await declared.completed("Orders?", datastores=[where], queries=[query(sql)])
    return results_of(declared.server.requests[-1])[-1]


async def test_a_query_runs_with_the_parameters_the_model_gives(declared: Declared, shop_url: str) -> None:
    sql = "SELECT id, total FROM orders WHERE customer = ? AND total > ? ORDER BY id"
    result = orjson.loads(await asked(declared, store(declared, shop_url), sql, ["Ada", 20]))
    assert result == {"rows": [{"id": 3, "total": 30}], "row_count": 1}
    offered = tools_of(declared.server.requests[0])["orders_of"]
    assert offered["description"] == "Orders of a customer."
    assert offered["parameters"]["properties"]["params"]["minItems"] == 2


async def test_what_the_model_gives_stays_a_value(declared: Declared, shop_url: str) -> None:
    where = store(declared, shop_url)
    sql = "SELECT count(*) AS n FROM orders WHERE customer = ?"
    assert '"n":0' in await asked(declared, where, sql, ["' OR '1'='1"])
    assert '"n":1' in await asked(declared, where, sql, ["Bob's"])


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM orders",
        "INSERT INTO orders VALUES (9, 'Eve', 1)",
        "DROP TABLE orders",
        "CREATE TABLE more (x INTEGER)",
        "SELECT 1; DELETE FROM orders",
        "COMMIT; DELETE FROM orders",
    ],
)
async def test_the_database_refuses_to_be_changed(declared: Declared, shop_url: str, sql: str) -> None:
    where = store(declared, shop_url)
    assert "The query failed" in await asked(declared, where, sql)
    assert '"n":3' in await asked(declared, where, "SELECT count(*) AS n FROM orders")


async def test_rows_beyond_the_cap_are_left_out_and_reported_as_such(
    declared: Declared, shop_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "CAPS", Caps(rows=2))
    result = orjson.loads(
        await asked(declared, store(declared, shop_url), "SELECT id FROM orders ORDER BY id")
    )
    assert (len(result["rows"]), result["truncated"]) == (2, True)


async def test_a_query_without_end_is_ended(
    declared: Declared, shop_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "CAPS", Caps(seconds=0.5))
    sql, reason = ENDLESS[make_url(shop_url).get_backend_name()]
    result = await asked(declared, store(declared, shop_url), sql)
    assert "The query failed" in result
    assert reason in result  # the server ended it, not the client's patience


async def test_named_parameters_become_the_tools_own(declared: Declared, shop_url: str) -> None:
    declared.server.answer(calls(orders_of={"customer": "Ada"}), reply("Two."))
    named = query("SELECT count(*) AS n FROM orders WHERE customer = ?", parameters=["customer"])
    await declared.completed("How many?", datastores=[store(declared, shop_url)], queries=[named])
    assert '"n":2' in results_of(declared.server.requests[1])[0]


async def test_a_file_outside_the_datastores_folder_cannot_be_named(
    declared: Declared, tmp_path: Path
) -> None:
    for path in ("../runyard.db", str(tmp_path / "runyard.db"), "../../runyard.db"):
        with pytest.raises(InvalidRequest, match="names a file in its organisation's folder"):
            store(declared, f"sqlite:///{path}", path)
        # One that was stored before such names were refused leads nowhere either.
        where = store(declared, "sqlite:///shop.db", path)
        sealed = Sealer(secret_key(declared.settings)).seal(f"sqlite:///{path}")
        with declared.site.store.begin() as tx:
            change = text("UPDATE datastores SET connection = :c WHERE id = :id")
            tx.conn.execute(change, {"c": sealed, "id": where["id"]})
        assert "There is no such file" in await asked(declared, where, "SELECT * FROM api_keys")


async def test_sqlite_cannot_attach_another_file(declared: Declared, tmp_path: Path) -> None:
    folder = datastores.folder(declared.home, declared.site.org)
    folder.mkdir(parents=True)
    sqlite3.connect(folder / "shop.db").close()
    (folder / "shop.db").touch()
    where = store(declared, "sqlite:///shop.db")
    assert "a query reads" in await asked(declared, where, f"ATTACH '{tmp_path / 'runyard.db'}' AS other")
    assert "a query reads" in await asked(declared, where, "PRAGMA query_only=OFF")


async def test_a_database_on_a_private_address_is_refused_unless_allowed(tmp_path: Path) -> None:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as guarded:
        guarded.publish()
        where = store(guarded, "postgresql://u:p@127.0.0.1:5432/db")
        assert "RUNYARD_ALLOWED_HOSTS" in await asked(guarded, where, "SELECT 1")


async def test_another_organisations_datastore_does_not_exist(declared: Declared, shop_url: str) -> None:
    sealer = Sealer(secret_key(declared.settings))
    foreign = declared.site.transact(
        lambda tx: datastores.create(tx, sealer, "another-org", "shop", "database", shop_url)
    )
    task = await declared.run(
        "Orders?", datastores=[{"id": foreign.id, "name": "x"}], queries=[query("SELECT 1")]
    )
    assert task.error is not None
    assert (task.error["code"], task.error["details"]["field"]) == ("datastore_not_found", "datastores[0]")
