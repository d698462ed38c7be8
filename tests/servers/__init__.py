"""Real servers for the tests, started once per test session and ended with it.

An owner process (`python -m tests.servers`) starts and ends each server, so that parallel pytest workers share one, and
so that it ends with the session however that ends. The variables in `GIVEN` name servers to use instead;
`TEST_WITHOUT=rabbitmq` (comma-separated) leaves one out.
"""

from __future__ import annotations

from tests.servers.mariadb import MariaDB, fresh_schema
from tests.servers.missing import ServerMissing
from tests.servers.owner import ensure, stop_all
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import Postgres, fresh_database
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.sentinel import Sentinel
from tests.servers.valkey import RedisServer, ValkeyServer

#: Which variable names a server to use instead of starting one.
GIVEN = {
    "postgres": "TEST_POSTGRES_URL",
    "valkey": "TEST_VALKEY_URL",
    "redis": "TEST_REDIS_URL",
    "rabbitmq": "TEST_RABBITMQ_URL",
    "mariadb": "TEST_MARIADB_URL",
}

__all__ = [
    "GIVEN",
    "MariaDB",
    "PgBouncer",
    "Postgres",
    "RabbitMQ",
    "RedisServer",
    "Sentinel",
    "ServerMissing",
    "ValkeyServer",
    "ensure",
    "fresh_database",
    "fresh_schema",
    "stop_all",
]
