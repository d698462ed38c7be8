"""The parts of `runyard doctor --selftest`: what it counts, what cuts the broker off, what takes callbacks."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.settings import Settings
from runyard_common.webhooks.rules.signing import new_secret, sign
from runyard_launch.cli import doctor
from runyard_launch.cli.doctor import Finding, Verdict
from runyard_launch.selftest import organisation, selftest
from runyard_launch.selftest.forwarder import Forwarder
from runyard_launch.selftest.receiver import Receiver
from runyard_launch.selftest.report import Line, judged, percentile, repeated
from tests import databases
from tests.waiting import wait_until


def test_figures_are_counted() -> None:
    assert percentile([], 0.5) is None
    assert [percentile([4.0, 1.0, 3.0, 2.0], share) for share in (0.5, 0.95, 1.0)] == [2.0, 4.0, 4.0]
    executed = [("a", 0), ("a", 1), ("b", 0), ("a", 1), ("c", 0), ("c", 0)]
    assert repeated(executed, ["a", "b"]) == 1


def test_a_broken_promise_fails_and_a_late_one_warns() -> None:
    assert judged("runs", [], "", "All ran.", {"lost": 0}).outcome == "ok"
    assert judged("runs", [], "later than 15 s", "All ran.", {}) == Line(
        "runs", "warning", "later than 15 s. All ran."
    )
    assert judged("runs", ["2 did not complete"], "late", "8 of 10.", {}).outcome == "failed"


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = ("127.0.0.1", int(self._listener.getsockname()[1]))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while piece := client.recv(1000):
                client.sendall(piece)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def forwarder() -> Iterator[Forwarder]:
    echo = Echo()
    made = Forwarder(echo.address)
    yield made
    made.close()
    echo.close()


def _answers(forwarder: Forwarder) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", forwarder.port), 20) as connection:
            connection.sendall(b"ping")
            return connection.recv(10) == b"ping"
    except OSError:
        return False


def test_a_forwarder_that_is_cut_ends_connections_and_refuses_others(forwarder: Forwarder) -> None:
    with socket.create_connection(("127.0.0.1", forwarder.port), 20) as connection:
        connection.sendall(b"ping")
        assert connection.recv(10) == b"ping"
        assert forwarder.cut() == 1
        assert connection.recv(10) == b""
    assert not _answers(forwarder)
    forwarder.restore()
    assert _answers(forwarder)
    assert forwarder.reconnected_s is not None
    assert forwarder.connected == 2


def test_a_forwarder_to_a_server_that_is_away_connects_nothing(forwarder: Forwarder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = ("127.0.0.1", int(closed.getsockname()[1]))
    nowhere = Forwarder(address)
    assert not _answers(nowhere)
    assert nowhere.connected == 0
    nowhere.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(new_secret())
    yield made
    made.close()


def _call(receiver: Receiver, id_: str, secret: str | None = None, run: str = "run") -> int:
    body = json.dumps({"task_id": run}).encode()
    headers = sign([secret or receiver._secret], id_, body, now=time.time(), attempt=1)
    return httpx2.post(receiver.url(run), content=body, headers=headers, trust_env=False).status_code


def test_a_receiver_fails_once_and_counts_what_comes_again(receiver: Receiver) -> None:
    assert [_call(receiver, id_) for id_ in ("one", "one", "two", "one")] == [500, 200, 200, 200]
    assert receiver.accepted == {"one": 2, "two": 1}
    assert receiver.order == {"run": ["one", "two"]}
    assert (receiver.failures, receiver.unsigned) == (1, 0)


def test_a_receiver_accepts_nothing_that_another_secret_has_signed(receiver: Receiver) -> None:
    assert _call(receiver, "one", new_secret()) == 401
    assert (receiver.unsigned, dict(receiver.accepted)) == (1, {})


def test_the_organisation_is_used_again_and_no_key_opens_it_between(tmp_path: Path) -> None:
    db = databases.opened(f"sqlite:///{tmp_path / 'runyard.db'}")
    store, sealer = Store(db), Sealer(new_key())
    try:
        one = organisation.opened(store, sealer)
        again = organisation.opened(store, sealer)  # the first was killed, and left its key behind
        assert (again.id, again.webhook_secret) != (one.id, one.webhook_secret)
        assert again.id == one.id
        with store.read() as conn:
            keys = identity.keys(OrgScope(conn, one.id), 10)
        assert [again.key.startswith(key.prefix) for key in keys] == [True]
        organisation.close(store, one.id)
        with store.read() as conn:
            assert identity.keys(OrgScope(conn, one.id), 10) == []
            left = identity.organisation(conn, one.id)
        assert left is not None
        assert not left.active
    finally:
        db.close()


@pytest.mark.parametrize(
    ("url", "leads"),
    [
        ("redis://:word@valkey:6380/1", True),
        ("amqp://me:word@rabbit//", True),
        ("rediss://valkey", False),
        ("amqps://rabbit", False),
        ("unix:///run/valkey.sock", False),
    ],
)
def test_what_is_encrypted_or_local_is_not_cut(url: str, leads: bool) -> None:
    forwarder, other = selftest._forwarder(Settings(broker_url=url))
    assert (forwarder is not None) == leads
    if forwarder is not None:
        assert other is not None
        assert other.replace(f"127.0.0.1:{forwarder.port}", "HOST").startswith(
            url.partition("://")[0] + "://" + (":word@" if "redis" in url else "me:word@") + "HOST/"
        )
        forwarder.close()


def test_the_doctor_ends_with_1_where_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [Line("runs", "ok", "20 of 20.", {"lost": 0}), Line("webhooks", "warning", "not tried")]
    monkeypatch.setattr(doctor, "findings", lambda: [Finding("settings", Verdict.GOOD, "fine")])
    monkeypatch.setattr(selftest, "selftest", lambda settings, progress: (line for line in lines))
    assert doctor.doctor(as_json=True, with_selftest=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in found] == ["ok", "ok", "warning"]
    assert found[1]["figures"] == {"lost": 0}
    lines.append(Line("broker cut", "failed", "2 did not complete"))
    assert doctor.doctor(with_selftest=True) == 1
    shown = capsys.readouterr()
    assert "2 did not complete" in shown.out
    assert "selftest: about" in shown.err


def test_the_doctor_tries_nothing_where_the_database_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "findings", lambda: [Finding("database", Verdict.BAD, "away")])
    assert doctor.doctor(with_selftest=True) == 1
    assert "first put right what failed above (database)" in capsys.readouterr().out


def test_the_forwarder_of_a_broken_test_does_not_keep_a_port() -> None:
    echo = Echo()
    made = Forwarder(echo.address)
    made.close()
    echo.close()
    wait_until(lambda: not _answers(made))
