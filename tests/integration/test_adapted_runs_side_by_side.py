"""Runs of an adapted agent at the same time, in one run of Runyard: each gets its own answers again after a crash."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import agents
import pydantic_ai as library
import pytest
from agents.models import _openai_shared

from runyard import Context, agent
from runyard.adapters import openai_agents, pydantic_ai
from runyard.testing import run
from tests.fakes.model_server import ModelServer, Reply, last_user, reply

pytestmark = pytest.mark.timeout(180)

ASKED = ["A", "B"]
of_pydantic_ai = library.Agent("openai-chat:gpt-test", defer_model_check=True)
of_openai_agents = agents.Agent(name="answers", model="gpt-test")


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """The provider of the agents' model."""
    monkeypatch.setattr(_openai_shared, "_use_responses_by_default", False)
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        both = threading.Event()  # are under way

        def respond(request: dict[str, Any]) -> Reply:
            if len(server.requests) == len(ASKED):
                both.set()
            return reply(f"of {last_user(request)}", hold=both)

        server.respond = respond
        yield server


@agent("@side-by-side/pydantic_ai")
async def with_pydantic_ai(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Asks both at once, in another order after the crash."""

    async def ask(about: str) -> tuple[str, Any]:
        return about, (await pydantic_ai(of_pydantic_ai).run(ctx, about)).output

    return dict(await asyncio.gather(*map(ask, ASKED[:: 1 if ctx.task.attempt == 1 else -1])))


@agent("@side-by-side/openai_agents")
async def with_openai_agents(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """The same."""

    async def ask(about: str) -> tuple[str, Any]:
        return about, (await openai_agents(of_openai_agents).run(ctx, about)).final_output

    return dict(await asyncio.gather(*map(ask, ASKED[:: 1 if ctx.task.attempt == 1 else -1])))


@pytest.mark.parametrize("crash", [3, 4])  # behind the first answer, and behind both
@pytest.mark.parametrize("adapted", [with_pydantic_ai, with_openai_agents])
def test_each_run_gets_its_own_answer_again(server: ModelServer, adapted: Any, crash: int) -> None:
    outcome = run(adapted, {}, crash_after=crash)
    assert (outcome.output, outcome.attempts) == ({"A": "of A", "B": "of B"}, 2), outcome.error
    if crash == 4:
        assert len(server.requests) == 2
