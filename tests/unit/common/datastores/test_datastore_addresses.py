"""Connection strings are judged when a datastore is made: what no query could reach is refused with the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard_common.datastores.service.addresses import FIELD, check_connection
from runyard_common.outbound import OutboundPolicy, UrlRefused
from runyard_common.settings import Settings
from runyard_common.values.errors import InvalidRequest, RunyardError


@pytest.mark.parametrize(
    "connection",
    [
        None, "", "db.example.com", "postgresql:", "postgresql://", "postgresql:///shop", "postgresql://u:p@/shop",
        "postgresql:///shop?host=/var/run/postgresql", "postgresql://%2Fvar%2Frun/shop", "mysql://:3306/shop",
        "postgresql://db:port/shop", "postgresql://db:0/shop", "postgresql://db:65536/shop", "mysql://db:-1/shop",
        "postgresql://db:5432:5433/shop", "postgresql://a b/shop", "postgresql://db..example/shop",
        "postgresql://127.1/shop", "mysql://0x7f000001/shop", "postgresql://[::1/shop", "oracle://db/shop",
        "mssql://db/shop", "mongodb://db/shop", "postgresql+psycopg2://db/shop", "mysql+pymysql://db/shop",
        "sqlite+pysqlite:///a.db", "http://db/shop", "file:///etc/passwd", "sqlite://", "sqlite:///", "sqlite:///.",
        "sqlite:///:memory:", "sqlite:////etc/passwd", "sqlite:///../other/a.db", "sqlite:///a/../../b.db",
        "sqlite://host/a.db", "postgresql://db/shop?sslmode=perhaps",
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_refused_with_its_field(connection: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_connection(connection)
    assert (refused.value.code, refused.value.field) == ("invalid_datastore", FIELD)


def test_a_refusal_repeats_no_password() -> None:
    for connection in (
        "oracle://u:hunter2@db/x",
        "postgresql://u:hunter2@db:port/x",
        "postgresql://u:hunter2@/x",
    ):
        with pytest.raises(InvalidRequest) as refused:
            check_connection(connection)
        assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql://u:p@db.example.com/shop", "postgres://db/shop", "mysql://u:p%40@db:3307/shop",
        "mariadb://10.1.2.3/shop", "postgresql://[2a00:1450:4001::200e]:6543/shop?sslmode=require", "sqlite:///shop.db",
        "sqlite:///2024/shop.db", "postgresql://db",
    ],
)  # fmt: skip
def test_what_may_lead_somewhere_is_taken(connection: str) -> None:
    check_connection(connection, OutboundPolicy(allow_private=True))


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ("postgresql://own.example:5433/other", "own_server"),
        ("postgresql://OWN.example:5433/other", "own_server"),
        ("mysql://127.0.0.1:6390/shop", "own_server"),
        ("postgresql://169.254.169.254/shop", "metadata"),
        ("mysql://127.0.0.1/shop", "loopback"),
    ],
)
def test_a_server_that_is_out_of_reach_is_refused_with_its_field(connection: str, reason: str) -> None:
    own = Settings(
        home=Path(),
        database_url="postgresql://u:p@own.example:5433/runyard",
        redis_url="redis://127.0.0.1:6390",
    )
    with pytest.raises(RunyardError) as refused:
        check_connection(connection, OutboundPolicy.of(own))
    assert isinstance(refused.value, UrlRefused)
    assert (refused.value.reason, refused.value.field) == (reason, FIELD)
