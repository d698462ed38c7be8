"""Schemas of a run's output on a worker: a costly answer delays no other run, and every draft's references are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from runyard import Context
from runyard.authoring import registered
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.schemas import outputs
from runyard_common.values.errors import ConfigurationError, InvalidRequest
from runyard_workers.agent_code import catalogue
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import calls

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
#: Definitions that each refer twice to the next, under different names: cheap to check, endless written out.
WIDE: dict[str, Any] = {
    f"d{i}": {
        "type": "object",
        "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}},
    }
    for i in range(22)
} | {"d22": {"type": "string"}}


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as declared:
        declared.publish()
        yield declared


async def test_a_costly_pattern_in_an_output_ends_its_run_and_delays_no_other(declared: Declared) -> None:
    over = asyncio.Event()

    async def sleeper(ctx: Context, args: Any) -> float:
        """Sleeps in short pieces; the most processor time that the loop's thread used in one."""
        longest = 0.0
        while not over.is_set():
            began = time.thread_time()
            await asyncio.sleep(0.01)
            longest = max(longest, time.thread_time() - began)
        return longest

    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    declared.server.respond = lambda request: calls(final_result={"a": "a" * 31 + "!"})
    neighbour = await declared.site.submit(declared.site.publish(sleeper), {})
    task = await declared.run("x", output_config={"output_schema": schema})
    over.set()
    assert task.error is not None
    assert task.error["code"] == "output_invalid"
    assert "output.a" in task.error["message"]
    neighbour_task = await declared.site.ended(neighbour)
    assert (neighbour_task.status, neighbour_task.attempt) == (Status.COMPLETED, 1)
    assert neighbour_task.output < 1.0  # a check of 31 letters took minutes


@pytest.mark.parametrize(
    "schema",
    [
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {"a": {"$ref": "#/definitions/n"}},
            "definitions": {"n": {"type": "integer"}},
        },
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "integer"}},
        },
    ],
    ids=["definitions", "$defs", "another property"],
)
async def test_references_in_an_output_schema_reach_the_model_written_out(
    declared: Declared, schema: dict[str, Any]
) -> None:
    declared.server.answer(calls(final_result={"a": "x"}), calls(final_result={"a": 1}))
    task = await declared.completed("x", output_config={"output_schema": schema})
    assert task.output == {"a": 1}
    (tool,) = [t["function"] for t in declared.server.requests[0]["tools"]]
    assert tool["parameters"]["properties"]["a"]["type"] == "integer"


async def test_an_answer_that_is_a_list_is_judged_by_its_schemas_own_draft(declared: Declared) -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "integer"}],
        "additionalItems": False,
    }
    declared.server.answer(calls(final_result={"result": [1, 2]}), calls(final_result={"result": [1]}))
    task = await declared.completed("x", output_config={"output_schema": schema})
    assert task.output == [1]


async def test_a_question_with_a_broken_schema_fails_the_run_that_asks(declared: Declared) -> None:
    async def asks(ctx: Context, args: Any) -> Any:
        return await ctx.ask("How many?", schema=args)

    async def reviews(ctx: Context, args: Any) -> Any:
        return await ctx.review("post", {}, schema=args)

    for fn in (asks, reviews):
        name = declared.site.publish(fn)
        for schema in ({"type": "objekt"}, {"pattern": "(["}, {"$ref": "https://example.com/x"}):
            task = await declared.site.ended(await declared.site.submit(name, schema))
            assert task.error is not None
            assert task.error["code"] == "invalid_schema"
            assert declared.site.questions(task.id) == []


async def test_a_stored_question_whose_schema_is_unusable_is_answered_all_the_same(
    declared: Declared,
) -> None:
    async def asks(ctx: Context, args: Any) -> Any:
        return await ctx.ask("How many?", schema={"type": "integer"})

    task_id = await declared.site.submit(declared.site.publish(asks), {})
    question = await declared.asked(task_id)

    def spoil(tx: Any) -> None:
        spoilt = '{"text": "How many?", "schema": {"type": "objekt"}}'
        tx.conn.execute(
            text("UPDATE questions SET payload = :p WHERE id = :i"), {"p": spoilt, "i": question.id}
        )

    declared.site.transact(spoil)
    declared.post(task_id, 5)
    assert (await declared.site.ended(task_id)).output == 5


async def test_a_python_agent_whose_schema_is_unusable_is_not_published(declared: Declared) -> None:
    async def typo(ctx: Context, args: Any) -> None:
        """Never runs."""

    name = declared.site.publish(typo, "@test/typo", input={"type": "objekt"})
    definition = registered()[name]
    with pytest.raises(ConfigurationError, match=r"@test/typo: input\.schema: .*\$\.type"):
        catalogue.publish(declared.site.store, declared.site.org, [definition], [])


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"type": "object", "properties": {"next": {"$ref": "#"}}}, "invalid_schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": WIDE}, "schema_too_large"),
    ],
    ids=["recursive", "multiplying"],
)
def test_an_output_that_no_model_can_be_given_is_refused_when_it_is_accepted(
    schema: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        outputs.from_output_config({"output_schema": schema})
    assert (refused.value.code, refused.value.field) == (code, "output_config.output_schema")
