"""Runs in tests begin with the agents of earlier ones published: each runs and is found as if it were the first."""

from __future__ import annotations

from typing import Any

import pytest

from runyard import Context, agent, authoring
from runyard.testing import run
from runyard_common.agents.service import agents
from runyard_workers.testkit import published


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The agents that are published from now on."""
    names: list[str] = []
    real = agents.publish

    def publish(tx: Any, org_id: str, manifest: Any, **options: Any) -> Any:
        names.append(manifest.name)
        return real(tx, org_id, manifest, **options)

    monkeypatch.setattr(agents, "publish", publish)
    return names


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})
    monkeypatch.setattr(published, "_kept", {})

    @agent("@once/child")
    async def child(ctx: Context, args: Any) -> str:
        return "first"

    @agent("@once/parent")
    async def parent(ctx: Context, args: Any) -> Any:
        return await ctx.run("@once/child")


def again(name: str, output: str, version: str = "1.0.0", timeout: float | None = None) -> None:
    """Register an agent once more."""
    authoring._registry.pop(f"{name}@{version}", None)

    @agent(name, version=version, timeout=timeout)
    async def other(ctx: Context, args: Any) -> str:
        return output


def test_an_agent_is_published_once_for_all_runs(publishing: list[str]) -> None:
    assert run("@once/parent").output == "first"
    assert publishing == ["@once/child", "@once/parent"]
    for _ in range(2):
        publishing.clear()
        assert run("@once/parent").output == "first"
        assert publishing == ["@once/parent"], "what runs is published last, to be the current one"


def test_what_is_registered_later_is_added(publishing: list[str]) -> None:
    run("@once/parent")
    again("@once/later", "later")
    publishing.clear()
    run("@once/parent")
    assert publishing == ["@once/later", "@once/parent"]
    assert run("@once/later").output == "later"


def test_other_code_of_the_same_agent_runs() -> None:
    assert run("@once/parent").output == "first"
    again("@once/child", "second")
    assert run("@once/parent").output == "second"


def test_an_agent_that_is_declared_otherwise_is_published_as_it_is_now() -> None:
    run("@once/parent")
    again("@once/child", "other", timeout=9)
    assert run("@once/parent").output == "other"
    authoring._registry.pop("@once/child@1.0.0")
    failed = run("@once/parent")
    assert failed.error is not None
    assert failed.error["code"] == "agent_not_found", "what is registered no more is not there"


def test_of_several_versions_the_newest_is_current_in_each_run() -> None:
    again("@once/child", "newer", version="2.0.0")
    for _ in range(2):
        assert run("@once/parent").output == "newer"
    again("@once/child", "newest", version="3.0.0")
    assert run("@once/parent").output == "newest"


def test_a_manifest_may_have_the_name_of_a_registered_agent() -> None:
    run("@once/parent")
    manifest = {"name": "@once/child", "version": "1.1.0", "instructions": "Answer."}
    assert run(manifest, message="hi", model=["declared"]).output == "declared"
    assert run("@once/parent").output == "first"


def test_a_manifest_with_a_registered_name_and_version_is_published_in_its_place() -> None:
    run("@once/parent")
    manifest = {"name": "@once/child", "version": "1.0.0", "instructions": "Answer."}
    assert run(manifest, message="hi").status == "completed", "no version_exists"
    assert run("@once/parent").output == "first"
