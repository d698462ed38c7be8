"""A task of an author's own Celery app goes on in their worker while the worker of its run is lost."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import _state
from celery.contrib.testing.worker import start_worker

from tests.stack import Stack

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),  # Celery's own call
]
MODULE = "tests.fakes.authors.shop_tasks"


@pytest.fixture
def shop(valkey_url: str) -> Iterator[redis.Redis]:
    """What the shop's tasks write and wait for, with a worker of the shop's own."""
    with (
        pytest.MonkeyPatch.context() as patch,
        redis.Redis.from_url(valkey_url, socket_timeout=None) as shelf,
    ):
        patch.setenv("SHOP_REDIS_URL", valkey_url)
        # Celery registers tasks of a module with every later app of the process.
        patch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
        sys.modules.pop(MODULE, None)
        module = importlib.import_module(MODULE)
        shelf.delete("sent", "arrived")
        level, handlers = logging.root.level, list(logging.root.handlers)
        with start_worker(module.app, perform_ping_check=False, queues=["shop"], shutdown_timeout=30):
            logging.root.setLevel(level)  # that of the other tests in this process, which Celery has replaced
            logging.root.handlers[:] = handlers
            yield shelf
            shelf.rpush("arrived", "all")  # a test that failed leaves no task behind
        sys.modules.pop(MODULE, None)
        module.app.close()
        gc.collect()  # results of Celery's unsubscribe as they go, which takes their server


def test_a_worker_killed_while_their_task_runs_costs_no_second_task(
    shop: redis.Redis, valkey_url: str, tmp_path: Path
) -> None:
    with Stack(
        tmp_path,
        agents=["tests.acceptance.shop_agents"],
        SHOP_REDIS_URL=valkey_url,
    ) as stack:
        task = stack.submit("@shop/deliver", {"order": "A7"})
        assert shop.blpop(["sent"], timeout=60)
        until_on_record(stack, task)
        stack.kill("worker-1")
        stack.start("worker-1")
        shop.rpush("arrived", "A7")
        ended = stack.until(task, "completed", "failed", "awaiting_review", seconds=90)
        assert (ended["status"], ended["output"]) == ("completed", {"order": "A7", "delivered": True})
        assert ended["attempt"] == 2
        assert shop.llen("sent") == 0, "the task ran a second time"


def until_on_record(stack: Stack, task: str) -> None:
    """Return once the run knows that its task is sent."""
    path, headers = f"/tasks/{task}/events?after=0&limit=100", {"accept": "application/json"}
    while not any(
        event["type"] == "step" for event in stack.request("GET", path, headers=headers)[1]["data"]
    ):
        assert stack.task(task)["status"] in ("pending", "running")
        time.sleep(0.05)
