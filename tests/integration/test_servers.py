"""The test servers are real, fresh and shared."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import redis
from kombu.connection import Connection


@pytest.mark.postgres
def test_every_fresh_database_is_empty_and_its_own(fresh_database: Callable[[], str]) -> None:
    first, second = fresh_database(), fresh_database()
    assert first != second
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with psycopg.connect(second) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_valkey_keeps_what_it_is_sent(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.set("servers:test", "kept", ex=10)
        assert client.get("servers:test") == b"kept"


def test_redis_is_the_oldest_supported_server(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        version = client.info("server")["redis_version"]
    assert tuple(map(int, version.split(".")[:2])) >= (6, 2)


@pytest.mark.rabbitmq
def test_rabbitmq_delivers_a_message(rabbitmq_url: str) -> None:
    with Connection(rabbitmq_url) as connection:
        queue = connection.SimpleQueue("servers-test")
        queue.put({"rang": True})
        message = queue.get(timeout=10)
        message.ack()
        assert message.payload == {"rang": True}
        queue.close()
