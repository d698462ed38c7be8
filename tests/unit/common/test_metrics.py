"""Metrics: what is counted of events, and the port on which a process shows them."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from runyard_common import tracing
from runyard_common.database.start_checks import Process
from runyard_common.database.transaction import CommittedEvent
from runyard_common.metrics import counting, exemplars, exposure, families
from runyard_common.metrics.points import POINTS, Points, passed_on
from runyard_common.metrics.server import LONGEST_HEAD, MetricsServer
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.settings import Settings
from runyard_common.tracing.recorder import Recorder
from runyard_common.values.ids import uuid7

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    return exposure.registry_of(Process.WORKER)


@pytest.fixture
def server(registry: CollectorRegistry) -> Iterator[MetricsServer]:
    with closing(MetricsServer(registry, "127.0.0.1", 0)) as server:
        server.serve()
        yield server


@pytest.fixture
def counted() -> Iterator[None]:
    counting.begin(Process.WORKER)
    yield
    counting.end()


def event(type_: str, **data: Any) -> CommittedEvent:
    return CommittedEvent("org", "task", 1, type_, 1, data, 0.0)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


def scrape(server: MetricsServer, path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", error.read().decode()


def raw(server: MetricsServer, sent: bytes) -> bytes:
    """What comes back for these bytes until the other side closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        found = b""
        # Too long a head is answered, and the connection closed, while it is still being sent.
        with suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        try:
            while piece := connection.recv(4096):
                found += piece
        except ConnectionResetError:
            pass
        return found


# -- what is counted ---------------------------------------------------------------------------------------


def test_nothing_is_noted_until_a_process_begins_to_count() -> None:
    assert Points().events is None
    assert Points().group_commit is None


@pytest.mark.usefixtures("counted")
def test_failures_retries_and_rescues_are_counted_by_their_causes(registry: CollectorRegistry) -> None:
    names = {
        "fail": ("runyard_run_failures_total", {"cause": "provider"}),
        "expire": ("runyard_run_failures_total", {"cause": "deadline"}),
        "retry": ("runyard_run_retries_total", {"cause": "agent"}),
        "rescue": ("runyard_runs_rescued_total", {"loss": "silent"}),
    }
    before = {type_: value(registry, name, **labels) for type_, (name, labels) in names.items()}
    assert POINTS.events is not None
    POINTS.events(
        [
            event("fail", error={"cause": "provider", "code": "model_unavailable"}),
            event("expire"),
            event("retry", error={"cause": "agent"}, delay_s=1.0),
            event("rescue", loss="silent", worker="w"),
        ]
    )
    assert {type_: value(registry, name, **labels) for type_, (name, labels) in names.items()} == {
        type_: count + 1 for type_, count in before.items()
    }


@pytest.mark.usefixtures("counted")
def test_values_that_are_not_known_do_not_become_series_of_their_own(registry: CollectorRegistry) -> None:
    counting.events(
        [event("fail", error={"cause": "\u2603 anything"}), event("custom", name="x"), event("fail")]
    )
    (family,) = list(families.FAILURES.collect())
    assert {sample.labels["cause"] for sample in family.samples} == {cause.value for cause in Cause}


def test_only_so_many_models_have_series_of_their_own(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "MOST_MODELS", 1)
    monkeypatch.setattr(counting, "_models", {})
    before = value(registry, "runyard_model_turns_total", model="other")
    usage = {"input_tokens": 10, "output_tokens": 2, "cached_tokens": 4}
    for model in ("first-of-these", "second-of-these", "third-of-these"):
        counting.events([event("model_turn", model=model, usage=usage, cost_micros=1_500_000)])
    first = {"model": "first-of-these"}
    assert value(registry, "runyard_model_turns_total", **first) == 1
    assert value(registry, "runyard_model_tokens_total", kind="cached", **first) == 4
    assert value(registry, "runyard_model_cost_usd_total", **first) == 1.5
    assert value(registry, "runyard_model_turns_total", model="second-of-these") == 0
    assert value(registry, "runyard_model_turns_total", model="other") - before == 2


def test_what_a_child_process_passes_on_is_counted_and_holds_no_output(registry: CollectorRegistry) -> None:
    sent = passed_on([event("fail", error={"cause": "agent"}, output="secret"), event("finish", output=1)])
    assert "secret" not in json.dumps(sent)
    before = value(registry, "runyard_run_failures_total", cause="agent")
    counting.passed_on(json.loads(json.dumps(sent)))
    assert value(registry, "runyard_run_failures_total", cause="agent") == before + 1


# -- the port ----------------------------------------------------------------------------------------------


def test_a_scrape_gets_the_format_that_it_asks_for(server: MetricsServer) -> None:
    status, plain, text = scrape(server)
    assert (status, plain.partition(";")[0]) == (200, "text/plain")
    assert "runyard_worker_slots " in text
    status, open_metrics, text = scrape(server, accept=OPEN_METRICS)
    assert (status, open_metrics.partition(";")[0]) == (200, "application/openmetrics-text")
    assert text.endswith("# EOF\n")
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    assert any(family.name == "runyard_run_events" for family in parsed)


@pytest.fixture
def traced() -> Iterator[Recorder]:
    recorder = Recorder("runyard-worker")
    tracing.use(recorder)
    yield recorder
    tracing.use(None)
    recorder.stop(1.0)


def measured(traceparent: str | None = None) -> Any:
    """A task, as far as a measurement looks at it."""
    return SimpleNamespace(id=uuid7(), traceparent=traceparent, agent_name="@demo/echo")


def test_exemplars_name_the_trace_in_open_metrics_alone(server: MetricsServer, traced: Recorder) -> None:
    task = measured()
    counting.attempt(task, "finished", 0.2)
    own = task.id.replace("-", "")
    assert f'trace_id="{own}"' in scrape(server, accept=OPEN_METRICS)[2]
    assert "trace_id" not in scrape(server)[2]
    asked_for = "4bf92f3577b34da6a3ce929d0e0e4736"
    counting.attempt(measured(f"00-{asked_for}-00f067aa0ba902b7-01"), "finished", 0.2)
    assert f'trace_id="{asked_for}"' in scrape(server, accept=OPEN_METRICS)[2]
    with traced.span("POST /tasks", {}):
        within = traced.log_ids()["trace_id"]
        assert exemplars.of() == {"trace_id": within}


def test_a_trace_that_is_not_recorded_is_no_exemplar(traced: Recorder) -> None:
    assert exemplars.of() is None
    left_out = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    assert exemplars.of(measured(left_out)) is None
    tracing.use(None)
    assert exemplars.of(measured()) is None


def test_the_token_is_asked_for_where_there_is_one(registry: CollectorRegistry) -> None:
    with closing(MetricsServer(registry, "127.0.0.1", 0, "let me count")) as server:
        server.serve()
        status, _, text = scrape(server)
        assert (status, "let me count" in text, "runyard_" in text) == (401, False, False)
        assert scrape(server, authorization="Bearer wrong")[0] == 401
        assert scrape(server, authorization="Bearer let me count")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the begin of TLS
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"GET /admin HTTP/1.1\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"A" * (LONGEST_HEAD * 2),
        os.urandom(512),
    ],
)
def test_what_is_no_scrape_is_refused_and_the_next_scrape_answered(
    server: MetricsServer, sent: bytes
) -> None:
    answer = raw(server, sent)
    assert b"runyard_" not in answer
    assert b"Traceback" not in answer
    assert b" 200 " not in answer
    assert scrape(server)[0] == 200


def test_connections_that_send_nothing_do_not_pile_up(server: MetricsServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(40)]
    try:
        # Those beyond the bound are closed at once, the others after the time that a request may take.
        assert all(connection.recv(1) == b"" for connection in reversed(idle))
    finally:
        for connection in idle:
            connection.close()
    assert scrape(server)[0] == 200


def test_the_processes_of_a_host_share_a_setting_and_take_the_next_free_port(
    registry: CollectorRegistry,
) -> None:
    with (
        closing(MetricsServer(registry, "127.0.0.1", 0)) as first,
        closing(MetricsServer(registry, "127.0.0.1", first.port)) as second,
    ):
        assert second.port > first.port


def test_a_port_that_is_not_to_be_had_keeps_no_process_from_working(registry: CollectorRegistry) -> None:
    settings = Settings(metrics_port="auto", metrics_host="203.0.113.1")
    assert exposure.expose(Process.WORKER, registry, settings) is None


def test_prometheus_finds_the_processes_in_the_home_and_none_that_is_gone(tmp_path: Path) -> None:
    folder, host = tmp_path / "metrics", socket.gethostname()
    dead = folder / f"worker-{host}-{2**22 + 7}.json"
    elsewhere = folder / "worker-another-host-1.json"
    exposure.write_target(dead, "127.0.0.1:1", Process.WORKER)
    exposure.write_target(elsewhere, "10.0.0.2:1", Process.WORKER)
    mine = folder / f"scheduler-{host}-{os.getpid()}.json"
    exposure.write_target(mine, "127.0.0.1:9464", Process.SCHEDULER)
    assert json.loads(mine.read_text()) == [
        {"targets": ["127.0.0.1:9464"], "labels": {"component": "scheduler"}}
    ]
    assert sorted(folder.iterdir()) == sorted([mine, elsewhere])
