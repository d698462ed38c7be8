"""The installation's own database, broker and Redis are out of every caller's reach, with any setting."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from runyard_common.datastores import queries as store
from runyard_common.outbound import GuardedClient, OutboundPolicy, UrlRefused, check_url
from runyard_common.settings import Settings
from runyard_common.values import primaries
from runyard_workers.agent.sql import QueryFailed
from tests.databases import opened
from tests.fakes.names import Names
from tests.fakes.raw_server import serving
from tests.querying import ask

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

OWN = "a server of this installation itself"
#: Everything that an operator can open.
EVERYWHERE = "0.0.0.0/0, 0.0.0.0, ::/0, 64:ff9b::/96, ::ffff:0:0/96, localhost, *.test"


def policy(**settings: Any) -> OutboundPolicy:
    given: dict[str, Any] = {
        "allow_private_urls": True,
        "allowed_hosts": EVERYWHERE,
        "broker_url": "redis://queue.test:6399",
    }
    return OutboundPolicy.of(Settings(**(given | settings)))


def own_address() -> str:
    """An address of this machine other than loopback; loopback's neighbour where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.9"


ALIASES = (
    *("127.0.0.1", "127.0.0.2", "localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"),
    own_address(),
)


@pytest.mark.parametrize("host", ALIASES)
@pytest.mark.parametrize("own", ["127.0.0.1", "localhost", "[::1]", own_address()])
def test_no_name_of_this_machine_leads_a_datastore_to_the_own_database(host: str, own: str) -> None:
    own_settings = policy(database_url=f"postgresql://u:p@{own}:54321/runyard")
    for scheme in ("postgresql", "mysql"):
        with pytest.raises(QueryFailed, match=OWN):
            ask(f"{scheme}://u:p@{host}:54321/other", "select 1", policy=own_settings)


@pytest.mark.parametrize(
    ("setting", "url", "port"),
    [
        ("database_url", "postgresql://u:p@db.test/runyard", 5432),
        ("database_url", "postgresql://u:p@/runyard?host=other.test,db.test&port=3,4", 4),
        ("database_url", "postgresql://u:p@/runyard?host=db.test:5", 5),
        ("database_url", "postgresql://u:p@/runyard?hostaddr=10.9.8.7&port=6", 6),
        ("broker_url", "amqp://u:p@db.test:7//", 7),
        ("broker_url", "amqps://u:p@db.test", 5671),
        ("redis_url", "rediss://db.test:8/0", 8),
        ("redis_url", "redis://:p@[fd00::7]:9/0", 9),
        ("redis_url", "redis+sentinel://:p@other.test,db.test:11/0?master_name=m", 11),
    ],
)
async def test_every_host_and_port_of_the_settings_is_refused(setting: str, url: str, port: int) -> None:
    names = Names(db_test=["10.9.8.7 fd00::7"], alias_test=["10.9.8.7 fd00::7"], other_test=["10.0.0.1"])
    names.answers["queue.test"] = [["10.0.0.2"]]
    opened_up = policy(**{setting: url, "allowed_hosts": f"{EVERYWHERE}, *.test:{port}"})
    async with GuardedClient(opened_up, resolver=names) as client:
        with pytest.raises(UrlRefused) as refused:
            await client.send("POST", f"http://alias.test:{port}/")
    assert refused.value.reason == "own_server"


async def test_an_own_server_that_cannot_be_looked_up_is_refused_by_its_port() -> None:
    names = Names(elsewhere_test=["10.0.0.1"])
    async with GuardedClient(policy(allowed_hosts="*.test:6399"), resolver=names) as client:
        with pytest.raises(UrlRefused, match=OWN):
            await client.send("POST", "http://elsewhere.test:6399/")


async def test_a_primary_that_sentinels_have_named_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primaries, "_seen", {})
    async with serving() as receiver, GuardedClient(policy()) as client:
        assert (await client.send("POST", receiver.url())).status == 200
        primaries.note("localhost", receiver.port)
        with pytest.raises(UrlRefused, match=OWN):
            await client.send("POST", receiver.url())


async def test_a_unix_socket_is_its_server_on_this_machine() -> None:
    own = policy(
        database_url="postgresql:///runyard?host=/var/run/postgresql", allowed_hosts="localhost:5432"
    )
    with pytest.raises(UrlRefused, match=OWN):
        async with GuardedClient(own) as client:
            await client.send("GET", "http://localhost:5432/")


async def test_the_embedded_broker_is_found_where_it_is_now(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, allow_private_urls=True)
    async with serving() as receiver, GuardedClient(OutboundPolicy.of(settings)) as client:
        assert (await client.send("POST", receiver.url())).status == 200
        (tmp_path / "valkey.url").write_text(f"redis://127.0.0.1:{receiver.port}/0")
        with pytest.raises(UrlRefused, match=OWN):
            await client.send("POST", receiver.url("localhost"))
        with pytest.raises(UrlRefused, match=OWN):
            await client.http_client().get(receiver.url(), timeout=5)  # as an MCP server is called
    assert len(receiver.calls) == 1


async def test_other_ports_and_machines_stay_open() -> None:
    names = Names(hooks_test=["127.0.0.1"], queue_test=["10.0.0.2"])
    async with serving() as receiver:
        own = policy(database_url=f"postgresql://u:p@127.0.0.1:{receiver.port + 1}/runyard")
        async with GuardedClient(own, resolver=names) as client:
            assert (await client.send("POST", receiver.url("hooks.test"))).status == 200
        remote = policy(database_url=f"postgresql://u:p@10.0.0.1:{receiver.port}/runyard")
        async with GuardedClient(remote, resolver=names) as client:
            assert (await client.send("POST", receiver.url("hooks.test"))).status == 200


def test_a_callback_to_an_own_server_is_refused_when_it_is_accepted() -> None:
    own = policy(redis_url="redis://127.0.0.1:54321/0")
    for url in ("http://127.0.0.1:54321/", "http://127.0.0.3:54321/x", "http://[::1]:54321/"):
        with pytest.raises(UrlRefused, match=OWN):
            check_url(url, own)


@pytest.mark.postgres
async def test_the_own_postgresql_is_known_by_every_way_it_is_reached(
    fresh_database: Callable[[], str],
) -> None:
    import asyncio

    from runyard_workers.agent.sql.relay import Relay

    own, other = make_url(fresh_database()), make_url(fresh_database())
    db = opened(own.set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
    with db.engine.connect() as connection:
        identity = store.server_identity(connection)
    db.close()
    assert identity is not None
    async with Relay([str(own.host)], own.port or 5432, 10**7, 30) as proxy:  # any other port or address
        forwarded = other.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        assert (await asyncio.to_thread(ask, forwarded, "select 1")).rows == [[1]]
        with pytest.raises(QueryFailed, match="the database server of this installation itself"):
            await asyncio.to_thread(ask, forwarded, "select 1", own_server=identity)


# -- files ---------------------------------------------------------------------------------------------------


def made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(file) as db:
        db.execute("create table t as select 1 as n")
    db.close()
    return file


def test_a_file_of_another_organisation_or_of_the_old_folder_is_refused_in_one_sentence(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "datastores" / "org-a"
    made(folder / "mine.db")
    made(tmp_path / "datastores" / "org-b" / "theirs.db")
    made(tmp_path / "datastores" / "old.db")
    assert ask("sqlite:///mine.db", "select n from t", folder=folder).rows == [[1]]
    refusals = set()
    absolute = str(made(tmp_path / "x.db"))
    for name in ("../org-b/theirs.db", "../old.db", "old.db", "theirs.db", "missing.db", ".", absolute):
        with pytest.raises(QueryFailed, match="datastores/org-a/") as refused:
            ask(f"sqlite:///{name}", "select 1", folder=folder)
        refusals.add(str(refused.value))
    assert len(refusals) == 1  # it does not show which of them exist


def test_a_link_does_not_lead_out_of_the_folder_nor_to_the_own_database(tmp_path: Path) -> None:
    folder = tmp_path / "datastores" / "org-a"
    folder.mkdir(parents=True)
    own = made(tmp_path / "runyard.db")
    (folder / "soft.db").symlink_to(own)
    os.link(own, folder / "hard.db")
    settings = Settings(home=tmp_path, database_url=f"sqlite:///{own}")
    for name in ("soft.db", "hard.db"):
        with pytest.raises(QueryFailed, match="There is no such file"):
            ask(f"sqlite:///{name}", "select 1", folder=folder, policy=OutboundPolicy.of(settings))
