"""Datastores over TLS: encrypted where the server offers it, verified when asked, refused where it cannot be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy.engine import make_url

from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.transaction import Tx
from runyard_common.datastores.rules import DatabaseTls, tls_of
from runyard_common.datastores.service import datastores
from runyard_common.values.errors import InvalidRequest
from runyard_workers.agent.sql import QueryFailed
from tests.fakes.authority import Authority
from tests.fakes.names import Names
from tests.querying import ask
from tests.servers import mariadb

pytestmark = pytest.mark.timeout(180)

SSL_USED = {
    "postgresql": "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
    "mysql": "show session status like 'Ssl_version'",
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def encrypted_postgres(server_url: Callable[[str], str], authority: Authority) -> Iterator[str]:
    """The session's PostgreSQL with a certificate for db.test; all its other users go on as they are."""
    admin = server_url("postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        folder = Path(connection.execute("show data_directory").fetchone()[0])  # type: ignore[index]
        _give(authority.certificate("db.test"), folder / "test.pem")
        for setting in ("ssl_cert_file", "ssl_key_file"):
            connection.execute(f"alter system set {setting} = 'test.pem'".encode())
        connection.execute("alter system set ssl = on")
        connection.execute("select pg_reload_conf()")
        connection.execute("create role tls_reader login")  # who may see how its own connection is made
        yield make_url(admin).set(host="db.test", username="tls_reader").render_as_string(hide_password=False)
        for setting in ("ssl", "ssl_cert_file", "ssl_key_file"):
            connection.execute(f"alter system reset {setting}".encode())
        connection.execute("select pg_reload_conf()")
        connection.execute("drop role tls_reader")


@pytest.fixture(scope="module")
def encrypted_mariadb(authority: Authority) -> Iterator[str]:
    """A MariaDB of its own with a certificate for db.test."""
    server = mariadb.MariaDB()
    with pytest.MonkeyPatch.context() as patch:
        _give(authority.certificate("db.test"), server.base / "test.pem")
        for option in ("ssl-cert", "ssl-key"):
            patch.setitem(mariadb._SETTINGS, option, str(server.base / "test.pem"))
        server.start()
        try:
            url = make_url(server.url).set(host="db.test", database="mysql")
            yield url.render_as_string(hide_password=False)
        finally:
            server.stop()


def _give(certificate: Path, to: Path) -> None:
    """A copy that only the server's user may read."""
    shutil.copy(certificate, to)
    to.chmod(0o600)
    owner = "nobody" if "mariadb" in str(to) and os.geteuid() == 0 else to.parent.stat().st_uid
    shutil.chown(to, owner)


def query(url: str, parameters: str, name: str = "db.test") -> str:
    names = Names(db_test=["127.0.0.1"], other_test=["127.0.0.1"])
    where = make_url(url).set(host=name).render_as_string(hide_password=False) + parameters
    rows = ask(where, SSL_USED[make_url(url).get_backend_name()], resolver=names)
    return str(rows.rows[0][-1])


@pytest.mark.parametrize("kind", ["mariadb", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_datastore_is_encrypted_and_verified_as_asked(
    kind: str, request: pytest.FixtureRequest, authority: Authority
) -> None:
    url = request.getfixturevalue(f"encrypted_{kind}")
    trusted = f"&sslrootcert={quote(authority.pem)}"
    encrypted = ("True", "TLSv1.3")
    assert query(url, "?sslmode=disable") in ("False", "")
    for parameters in ("", "?sslmode=prefer", "?sslmode=require", "?ssl-mode=REQUIRED"):
        assert query(url, parameters) in encrypted, parameters
    for parameters in (
        "?sslmode=verify-full",
        "?ssl=true",
        "?ssl_mode=VERIFY_IDENTITY",
        "?sslmode=verify-ca",
    ):
        assert query(url, parameters + trusted) in encrypted, parameters
    assert query(url, "?sslmode=verify-ca" + trusted, "other.test") in encrypted
    with pytest.raises(QueryFailed, match=r"(?i)certificate"):
        query(url, "?sslmode=verify-full" + trusted, "other.test")
    with pytest.raises(QueryFailed, match=r"(?i)certificate"):
        query(url, "?sslmode=verify-full")  # the system trusts other authorities


@pytest.mark.parametrize("kind", ["mariadb", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_server_without_tls_is_refused_where_tls_is_asked_for(
    kind: str, request: pytest.FixtureRequest, server_url: Callable[[str], str]
) -> None:
    url = server_url(kind)
    for mode in ("require", "verify-full"):
        with pytest.raises(QueryFailed, match=r"(?i)ssl"):
            ask(f"{url}?sslmode={mode}", "select 1")


def test_what_is_not_understood_is_refused_when_the_datastore_is_made() -> None:
    for parameters in ("sslmode=perhaps", "ssl=maybe", "sslrootcert=/etc/passwd"):
        with pytest.raises(InvalidRequest) as refused:
            datastores.create(
                cast(Tx, None),  # it is refused before anything is stored
                Sealer(new_key()),
                "org",
                "shop",
                "database",
                f"postgresql://u@h/db?{parameters}",
            )
        assert (refused.value.code, refused.value.field) == ("invalid_datastore", "metadata.connectionString")


def test_a_given_authority_means_that_the_server_is_verified() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nx"
    assert tls_of({"sslrootcert": pem}) == DatabaseTls("verify-full", pem)
    assert tls_of({"ssl": "true", "sslrootcert": "system"}) == DatabaseTls("verify-full")
    assert tls_of({}).mode == "prefer"
