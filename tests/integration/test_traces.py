"""Traces of runs in one process, as a collector gets them."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from runyard import AgentError, Context
from runyard.context import BlockingContext
from runyard_common import tracing
from runyard_common.broker.application import application
from runyard_common.broker.notifier import BrokerNotifier
from runyard_common.human_tasks.service import answers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import rescues
from runyard_common.settings import Settings
from runyard_common.stream.live import Live
from runyard_common.stream.wake_ups import Kind
from runyard_common.tracing.recorder import Recorder
from runyard_common.values.ids import uuid7
from tests.collector import Collector, Received, missing_parents
from tests.installation import Installation
from tests.installation import Recorder as Site
from tests.stack import PYTHONPATH, ROOT

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(name="collector")
def _collector() -> Iterator[Collector]:
    with Collector() as collector:
        recorder = Recorder(
            "runyard-worker",
            BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces"), schedule_delay_millis=50),
        )
        tracing.use(recorder)
        try:
            yield collector
        finally:
            tracing.use(None)
            recorder.stop(5)


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))  # type: ignore[arg-type]

    return run


def of(spans: list[Received], name: str) -> Received:
    (found,) = [span for span in spans if span.name == name]
    return found


def ended(agent: str) -> Any:
    """Whether a run has come, which is written as it ends, with its attempts, whose last one ends after that."""

    def whole(spans: list[Received]) -> bool:
        attempts = Counter(span.parent for span in spans if span.name.startswith("attempt "))
        roots = [span for span in spans if span.name == f"invoke_agent {agent}"]
        return any(attempts[root.id] == root.attributes["runyard.attempts"] for root in roots)

    return whole


@pytest.fixture(name="url")
def _url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'traces.db'}"


def author_span(name: str) -> None:
    """What an author's code does, with a tracer of the provider that is active here."""
    recorder = tracing.active()
    assert recorder is not None
    with recorder._provider.get_tracer("author").start_as_current_span(name):
        pass


@on_a_loop
async def test_a_run_with_a_question_a_crash_and_a_child_is_one_tree(collector: Collector, url: str) -> None:
    async with Installation(url) as site:
        stuck = asyncio.Event()

        async def helper(ctx: Context, args: dict[str, Any]) -> str:
            return await ctx.step("look", lambda: "found")

        helper_name = site.publish(helper)

        async def parent(ctx: Context, args: dict[str, Any]) -> str:
            await ctx.step("first", lambda: author_span("mine"))
            if ctx.task.attempt == 1:
                stuck.set()
                await asyncio.Event().wait()
            name = await ctx.ask("Which?")
            return f"{name} {await ctx.run(helper_name)}"

        name = site.publish(parent)
        engine = await site.engine()
        task_id = await site.submit(name, traceparent=CALLER)
        await stuck.wait()
        worker = engine.worker_id
        site.vanish(engine)
        await site.engine()
        await asyncio.to_thread(site.transact, lambda tx: rescues.rescue(tx, worker))
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "blue", "user:1"))
        task = await site.ended(task_id)
        assert (task.status, task.output) == (Status.COMPLETED, "blue found"), task.error
        spans = await asyncio.to_thread(collector.until, ended(name))

    root = of(spans, f"invoke_agent {name}")
    assert {span.trace for span in spans} == {CALLER.split("-")[1]}
    assert root.parent == CALLER.split("-")[2]
    assert missing_parents(spans) == [root.name]  # whose parent is its caller's
    attempts = {n: of([s for s in spans if s.parent == root.id], f"attempt {n}") for n in range(1, 5)}
    assert (attempts[1].failed, attempts[1].attributes["error.type"]) == (True, "worker_lost")
    outcomes = [attempts[n].attributes["runyard.outcome"] for n in attempts]
    assert outcomes == ["lost", "asked", "waiting", "finished"]
    step = of(spans, "step first")
    assert (step.parent, of(spans, "mine").parent) == (attempts[1].id, step.id)
    child = of(spans, f"invoke_agent {helper_name}")
    assert child.parent == attempts[3].id
    assert of(spans, "step look").attributes["runyard.task.id"] == child.attributes["runyard.task.id"]
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert (root.attributes["runyard.status"], root.attributes["runyard.attempts"]) == ("completed", 4)
    assert root.began <= attempts[1].began
    assert root.ended >= attempts[3].ended


class Sending(Site):
    """Sends wake-ups as a process does: over Redis while `through_redis`, else through the broker."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        names = uuid7()
        self._live = Live(redis_url, installation=lambda: names)
        self._notifier = BrokerNotifier(application(Settings(broker_url=redis_url)), lambda: names)
        self.through_redis = True

    def wake(self, kind: Kind, otherwise: Callable[[], object]) -> None:
        if self.through_redis:
            self._live.wake(kind, otherwise)
        else:
            self._notifier.notify()

    def close(self) -> None:
        self._live.close()
        self._notifier.close()


@on_a_loop
async def test_each_wake_up_has_a_span_from_the_commit_until_its_message_is_sent(
    collector: Collector, url: str, valkey_url: str
) -> None:
    sending = Sending(valkey_url)

    def sent(event: str) -> Callable[[list[Received]], bool]:
        return lambda spans: any(span.attributes.get("runyard.event") == event for span in spans)

    async with Installation(url, recorder=sending) as site:

        async def asks(ctx: Context, args: dict[str, Any]) -> str:
            return str(await ctx.ask("Which?"))

        name = site.publish(asks)
        task_id = await site.submit(name)
        await asyncio.to_thread(collector.until, sent("submit"))
        await site.engine()
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        sending.through_redis = False
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "blue", "user:1"))
        await asyncio.to_thread(collector.until, sent("admit"))
        await site.ended(task_id)
        spans = await asyncio.to_thread(collector.until, ended(name))
    sending.close()
    root = of(spans, f"invoke_agent {name}")
    first, second = (span for span in spans if span.name == "wake-up")
    assert {first.parent, second.parent} == {root.id}
    assert [span.attributes["runyard.wake_up.by"] for span in (first, second)] == ["list", "celery"]
    claims = sorted((span for span in spans if span.name == "claim"), key=lambda span: span.began)
    assert first.ended < claims[0].ended  # no worker was there before
    microseconds = 1_000
    for wake_up, claim in zip((first, second), claims, strict=True):
        assert abs(wake_up.began - claim.began) < 1_000 * microseconds  # the same moment, by one host's clock


@on_a_loop
async def test_a_failed_run_names_its_code_and_no_message(collector: Collector, url: str) -> None:
    async with Installation(url) as site:

        async def falls(ctx: Context, args: dict[str, Any]) -> None:
            raise AgentError("the password is hunter2", code="no_luck")

        name = site.publish(falls, retries=0)
        await site.engine()
        task = await site.ended(await site.submit(name))
        assert task.status is Status.FAILED
        spans = await asyncio.to_thread(collector.until, ended(name))
    root = of(spans, f"invoke_agent {name}")
    assert (root.failed, root.attributes["error.type"], root.parent) == (True, "no_luck", "")
    first = of(spans, "attempt 1")
    assert (first.failed, first.attributes["error.type"]) == (True, "no_luck")
    assert first.attributes["runyard.cause"] == "agent"
    assert "hunter2" not in repr(spans)


@on_a_loop
async def test_a_plain_agents_spans_in_its_thread_are_inside_its_attempt(
    collector: Collector, url: str
) -> None:
    async with Installation(url) as site:

        def plain(ctx: BlockingContext, args: dict[str, Any]) -> str:
            author_span("in thread")
            ctx.step("work", lambda: author_span("in step"))
            return trace.format_span_id(trace.get_current_span().get_span_context().span_id)

        name = site.publish(plain)
        await site.engine()
        task = await site.ended(await site.submit(name))
        spans = await asyncio.to_thread(collector.until, ended(name))
    attempt = of(spans, "attempt 1")
    assert (of(spans, "in thread").parent, task.output) == (attempt.id, attempt.id)
    assert of(spans, "in step").parent == of(spans, "step work").id


@on_a_loop
async def test_a_collector_that_is_away_delays_no_run_and_no_end_of_a_process(url: str) -> None:
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint, timeout=600),
            max_queue_size=64,
            max_export_batch_size=32,
            schedule_delay_millis=10,
        )
        recorder = Recorder("runyard-worker", processor)
        tracing.use(recorder)
        try:
            async with Installation(url) as site:

                async def quick(ctx: Context, args: dict[str, Any]) -> None:
                    for number in range(100):  # more than the queue takes
                        with tracing.span(f"span {number}"):
                            pass

                name = site.publish(quick)
                await site.engine()
                for _ in range(3):
                    assert (await site.ended(await site.submit(name))).status is Status.COMPLETED
        finally:
            tracing.use(None)
        recorder.stop(0.2)  # an export under way would wait ten minutes: longer than any test may


def _processes_imports(env: dict[str, str], code: str) -> str:
    given = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | env
    done = subprocess.run(
        [sys.executable, "-c", code], env=given | {"PYTHONPATH": PYTHONPATH}, cwd=ROOT, capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_without_settings_nothing_of_opentelemetry_is_imported_and_a_missing_extra_is_a_warning() -> None:
    code = (
        "import sys\n"
        "from runyard_common import commit_hooks, telemetry, tracing\n"
        "telemetry.configure()\n"
        "tracing.start('runyard-api')\n"
        "heavy = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'runyard_common.tracing.recorder')\n"
        "print([name for name in heavy if name in sys.modules], tracing.active())\n"
        "import os; os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = 'http://127.0.0.1:9'\n"
        "sys.modules['opentelemetry.sdk'] = None\n"
        "tracing.start('runyard-api')\n"
        "print(tracing.active())\n"
    )
    shown = _processes_imports({}, code)
    assert shown.startswith("[] None\nNone\n")
    assert "missing_extra" in shown
    assert "runyard[otel]" in shown
