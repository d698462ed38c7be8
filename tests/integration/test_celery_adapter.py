"""Celery tasks of the author's own app as agents, with a real broker and worker: `runyard.adapters.celery_task`."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from celery import Celery, _state
from celery.contrib.testing.worker import start_worker

from runyard import Context, agent, authoring
from runyard.adapters import celery_task
from runyard.testing import run
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import cancellations
from tests.installation import Installation

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),  # Celery's own call
    # Celery leaves the sockets of its results to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def shop(valkey_url: str) -> Iterator[ModuleType]:
    """The authors' module, imported as it is, with a worker of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_REDIS_URL", valkey_url)
        # Celery registers tasks of a module with every later app of the process.
        patch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
        module = importlib.import_module("tests.fakes.authors.shop_tasks")
        level, handlers = logging.root.level, list(logging.root.handlers)
        with start_worker(module.app, perform_ping_check=False, queues=["shop"], shutdown_timeout=30):
            logging.root.setLevel(level)  # that of the other tests in this process, which Celery has replaced
            logging.root.handlers[:] = handlers
            yield module
        module.app.close()
        gc.collect()  # results of Celery's unsubscribe as they go, which takes their server


@pytest.fixture(autouse=True)
def agents(shop: ModuleType) -> Iterator[None]:
    before = authoring.registered()
    shop.PAID.clear()
    yield
    authoring.restore(before)


def test_a_task_is_an_agent_with_its_result_as_output(shop: ModuleType) -> None:
    pay = agent("pay")(celery_task("shop.pay", shop.app))
    assert run(pay, {"order": "A7", "amount": 40.0}).output == {"order": "A7", "paid": 40.0}
    by_position = agent("pay_too")(celery_task(shop.pay, output=lambda result: result["paid"]))
    assert run(by_position, ["A8", 2.0]).output == 2.0
    named = agent("pay_named")(celery_task("shop.pay", "tests.fakes.authors.shop_tasks:app"))
    assert run(named, {"order": "A9"}).status == "completed"
    assert shop.PAID == ["A7", "A8", "A9"]


def test_a_loss_after_each_write_sends_the_task_once(shop: ModuleType) -> None:
    pay = agent("pay")(celery_task(shop.pay, effect="idempotent"))
    for write in range(1, 20):
        shop.PAID.clear()
        outcome = run(pay, {"order": "A7"}, crash_after=write)
        assert (outcome.status, shop.PAID) == ("completed", ["A7"])
        if outcome.attempts == 1:
            break
    assert write > 1


def test_a_loss_while_it_sends_waits_for_an_operator(shop: ModuleType) -> None:
    pay = agent("pay")(celery_task(shop.pay))
    with pytest.raises(AssertionError, match=r"No answer to .*not known"):
        run(pay, {"order": "A7"}, crash_after=1)


def test_a_failure_has_their_exception_and_traceback(shop: ModuleType) -> None:
    refuse = agent("refuse")(celery_task(shop.refuse))
    error = run(refuse, {"order": "A7"}).error
    assert error is not None
    assert error["code"] == "celery_task_failed"
    assert "CardRefused: A7: no money" in error["message"]
    assert error["details"]["exception"] == "CardRefused"
    assert "in refuse" in error["details"]["traceback"]


def test_a_retry_of_the_run_sends_the_task_again(shop: ModuleType) -> None:
    refuse = agent("refuse", retries=2)(celery_task(shop.refuse))
    outcome = run(refuse, {"order": "A7"})
    assert (outcome.status, outcome.attempts) == ("failed", 3)
    assert shop.PAID == ["A7", "A7", "A7"]


def test_their_own_retries_are_waited_for(shop: ModuleType) -> None:
    assert run(agent("flaky")(celery_task(shop.flaky)), {"order": "A7"}).output == 2


def test_a_tasks_progress_is_the_runs(shop: ModuleType) -> None:
    outcome = run(agent("count")(celery_task(shop.count)), {"of": 2})
    assert outcome.output == 2
    assert [
        event for event in outcome.of_type("progress") if event != {"fraction": 0.5, "message": "half"}
    ] == []


def test_without_waiting_the_run_has_the_tasks_id(shop: ModuleType) -> None:
    sent = run(agent("sent")(celery_task(shop.pay, wait=False)), {"order": "A7"}).output
    assert isinstance(sent, str)
    assert len(sent) == 36


def test_an_app_without_a_result_backend_is_refused_before_anything_is_sent() -> None:
    outcome = run(
        agent("lost")(celery_task("shop.pay", Celery("nothing", broker="memory://"))), {"order": "A7"}
    )
    assert outcome.error is not None
    assert outcome.error["code"] == "no_result_backend"
    with pytest.raises(TypeError, match="its app"):
        celery_task("shop.pay")


@pytest.mark.anyio
async def test_a_cancelled_run_revokes_the_task(
    shop: ModuleType, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked = threading.Event()
    asked: list[Any] = []

    def revoke(*given: Any, **options: Any) -> None:
        asked.append((*given, options))
        revoked.set()

    monkeypatch.setattr(shop.app.control, "revoke", revoke)
    async with Installation(f"sqlite:///{tmp_path}/runyard.db", files=tmp_path / "files") as site:
        await site.engine()
        name = site.publish(celery_task(shop.pay, terminate=True, queue="nobodys"), "@test/pay")
        task_id = await site.submit(name, {"order": "A7"})
        while not any(
            entry.name == "send shop.pay" and entry.state == "done" for entry in site.journal(task_id)
        ):
            await site.until(task_id, Status.PENDING, Status.RUNNING)
        site.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "no longer needed", "me"))
        await site.until(task_id, Status.STOPPED)
        assert await asyncio.to_thread(revoked.wait, 30)
        (sent,) = [entry.value for entry in site.journal(task_id) if entry.name == "send shop.pay"]
        assert asked == [(sent, {"terminate": True})]


def test_a_task_is_a_part_of_an_agents_own_function(shop: ModuleType) -> None:
    @agent("order")
    async def order(ctx: Context, args: dict[str, Any]) -> Any:
        paid = await celery_task(shop.pay).run(ctx, args["order"], amount=3.0)
        return {"paid": paid["paid"]}

    assert run(order, {"order": "A7"}).output == {"paid": 3.0}
