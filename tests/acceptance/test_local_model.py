"""The embedded model for real: a streamed answer, a tool call, and schema-bound output, from a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from runyard.tools import tool
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.schemas import checks
from tests.declared import Declared, declared_agents

pytestmark = [pytest.mark.anyio, pytest.mark.local_model, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
asked: list[str] = []


@tool(name="local_order_status", effect="read")
async def order_status(order: str) -> str:
    """Where an order is."""
    asked.append(order)
    return "shipped yesterday"


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    command = [sys.executable, "-m", "runyard_launch.localmodel", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().rpartition(' ')[2].strip()}/v1"
        process.terminate()


@pytest.fixture
async def declared(tmp_path: Path, model_url: str) -> AsyncIterator[Declared]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "model.url").write_text(model_url)
    async with declared_agents(
        f"sqlite:///{tmp_path / 'runyard.db'}", home, model="", model_base_url=""
    ) as declared:
        yield declared


def sample(declared: Declared, name: str) -> dict[str, object]:
    document = yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text())
    declared.site.transact(lambda tx: agents.publish(tx, declared.site.org, parse(document), shared=True))
    return dict(document)


async def test_support_triage_completes_with_an_output_that_fits_its_schema(declared: Declared) -> None:
    document = sample(declared, "support_triage")
    task_id = await declared.submit(
        "I was charged twice for my March invoice and need the second payment back before Friday.",
        {"ticketId": "T-1042", "priority": "high", "language": "en"},
        agent="@demo/support_triage",
        streaming_tokens=True,
    )
    task = await declared.site.ended(task_id, seconds=240)
    assert task.status is Status.COMPLETED, task.error
    schema = document["output"]["schema"]  # type: ignore[index]
    assert checks.violations(task.output, schema) == []
    assert set(task.output) == {"category", "nextStep", "summary"}
    assert task.usage is not None
    assert task.usage["input_tokens"] > 0
    assert declared.events(task, "model_turn")[0]["model"].startswith("local/")


async def test_a_chat_answer_streams_token_by_token(declared: Declared) -> None:
    sample(declared, "customer_support_bot")
    task_id = await declared.submit(
        "Where is my order?", agent="@demo/customer_support_bot", streaming_tokens=True
    )
    task = await declared.site.ended(task_id, seconds=240)
    assert task.status is Status.COMPLETED, task.error
    tokens = [t["text"] for t in declared.site.recorder.tokens if t["task_id"] == task_id]
    assert len(tokens) > 3
    assert "".join(tokens).strip() == str(task.output).strip()


async def test_a_tool_is_called_and_the_answer_bound_to_a_schema(declared: Declared) -> None:
    asked.clear()
    schema = {"type": "object", "properties": {"state": {"type": "string"}}, "required": ["state"]}
    declared.publish(tools=["local_order_status"], output={"schema": schema}, temperature=0, max_tokens=200)
    task = await declared.site.ended(await declared.submit("Where is order A1?"), seconds=240)
    assert task.status is Status.COMPLETED, task.error
    assert isinstance(task.output["state"], str)
    assert asked  # temperature 0: it asks before it answers, each time
    assert declared.events(task, "tool_result")[0]["outcome"] == "ok"
