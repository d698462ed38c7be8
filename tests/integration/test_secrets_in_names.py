"""A secret whose value is part of a name, or one of the engine's words: the run goes on as any other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runyard import Context, agent
from runyard.testing import approve, run
from runyard_workers.attempts.redaction import Redaction

UNDONE: list[str] = []


@agent("@g/postgres-child")
async def _child(ctx: Context, args: dict[str, Any]) -> str:
    return "child"


@agent("@secret-names/all")
async def _all(ctx: Context, args: dict[str, Any]) -> Any:
    secret = await ctx.secret("T")
    found = [await ctx.step("load postgres table", lambda: f"from {secret}")]
    await ctx.state.set("kept in postgres", 1)
    found.append(await ctx.wait_for_event("postgres", key="postgres", timeout=1, default="late"))
    found.append(await ctx.run("@g/postgres-child", {}))
    found.append(await ctx.ask("Which?", key="postgres-host"))
    found.append(await ctx.review("pay postgres", {"to": "bank"}))
    found.append(await ctx.state.get("kept in postgres"))
    return found


@pytest.mark.parametrize("crash", [None, 2, 5])
def test_what_is_named_by_it_is_found_again(crash: int | None) -> None:
    outcome = run(
        _all, {}, secrets={"T": "postgres"}, answers=["this", approve()], crash_after=[crash] if crash else []
    )
    assert outcome.error is None
    assert outcome.output == ["from [redacted]", "late", "child", "this", {"to": "bank"}, 1]


@agent("@secret-names/undoes")
async def _undoes(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.secret("T")
    await ctx.on_failure("drop postgres table", UNDONE.append, "dropped")
    raise ValueError("postgres is full")


def test_what_is_undone_by_it_is_undone() -> None:
    UNDONE.clear()
    outcome = run(_undoes, {}, secrets={"T": "postgres"})
    assert UNDONE == ["dropped"]
    assert outcome.error is not None
    assert "[redacted] is full" in outcome.error["message"]


@agent("@secret-names/word")
async def _word(ctx: Context, args: dict[str, Any]) -> Any:
    await ctx.secret("T")
    found = await ctx.step("one", lambda: 1)
    return [found, await ctx.ask("And?")]


@pytest.mark.parametrize("word", ["completed", "done", "failed", "step", "approve", "a"])
def test_a_word_of_the_engines_is_no_secret(word: str) -> None:
    outcome = run(_word, {}, secrets={"T": word}, answers=["yes"], crash_after=[2])
    assert (outcome.status, outcome.output) == ("completed", [1, "yes"])


def test_a_secret_is_found_as_python_and_json_write_it() -> None:
    secret = "quote\"back\\slash/é&'<x>"
    redact = Redaction()
    redact.add(secret)
    for text in (str(KeyError(secret)), repr({"k": secret}), f"{[secret]}", json.dumps(secret)):
        assert "slash" not in redact(text), text
