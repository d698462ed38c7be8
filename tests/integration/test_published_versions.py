"""A published version never changes, whichever way the next content comes in: HTTP, the command line, a worker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runyard import Context, agent, authoring
from runyard.authoring import AgentDefinition
from runyard_common.agents.queries import registered_tools
from runyard_common.agents.queries.registered_tools import Tool
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.rules.tool_access import PublicTools
from runyard_common.agents.service import agents
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.settings import Settings
from runyard_common.values.errors import Conflict, InvalidRequest
from runyard_common.values.ids import uuid7
from runyard_launch.cli.main import app
from runyard_workers.agent_code import catalogue
from tests import databases

DECLARED: dict[str, Any] = {"name": "@fixed/bot", "version": "1.0.0", "instructions": "One."}


def definition(**options: Any) -> AgentDefinition:
    """A Python agent with these options."""
    name = f"@fixed/code_{uuid7()[-8:]}"

    async def code(ctx: Context, args: dict[str, Any]) -> str:
        """Does it."""
        return ""

    agent(name, **options)(code)
    return authoring._registry.pop(f"{name}@{options.get('version', '1.0.0')}")


def again(first: AgentDefinition, **options: Any) -> AgentDefinition:
    """The same agent, its code changed."""
    name = first.name
    agent(name, **options)(first.fn)
    return authoring._registry.pop(f"{name}@{options.get('version', '1.0.0')}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of its own."""
    return Store(databases.opened(f"sqlite:///{tmp_path / 'runyard.db'}"))


def current(store: Store, org: str, name: str) -> tuple[str, dict[str, Any]]:
    """The version that runs when none is asked for, and its manifest."""
    with store.read() as conn:
        record = agents.resolve(OrgScope(conn, org), name)
    return record.version.version, record.manifest


def test_many_agents_of_a_worker_are_published_some_at_a_time_and_those_of_a_person_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_AT_ONCE", 2)
    org, refused, begun = uuid7(), list[str](), list[int]()
    begin = Store.begin

    def counted(self: Store, *args: Any, **more: Any) -> Any:
        begun.append(1)
        return begin(self, *args, **more)

    monkeypatch.setattr(Store, "begin", counted)
    many = [parse(DECLARED | {"name": f"@fixed/bot{n}"}) for n in range(5)]
    brought = catalogue.bring(store, org, [], many, refused=refused)
    assert brought == [f"@fixed/bot{n}@1.0.0" for n in range(5)]
    assert len(begun) == 3
    begun.clear()
    changed = [parse(DECLARED | {"name": f"@fixed/bot{n}", "version": "1.0.1"}) for n in range(5)]
    with pytest.raises(Conflict):
        catalogue.publish(store, org, [], [*changed, parse(many[0].to_json() | {"instructions": "Two."})])
    assert len(begun) == 1
    assert current(store, org, "@fixed/bot1")[0] == "1.0.0"


def test_a_worker_refuses_a_changed_declared_version_and_publishes_the_others(store: Store) -> None:
    org, refused = uuid7(), list[str]()
    assert catalogue.publish(store, org, [], [parse(DECLARED)]) == 1
    other = {"name": "@fixed/other", "version": "1.0.0", "instructions": "Two."}
    changed = [parse(DECLARED | {"instructions": "Changed."}), parse(other)]
    assert catalogue.publish(store, org, [], changed, refused=refused) == 1
    assert refused == ["@fixed/bot 1.0.0 is published already with other content. Raise its version."]
    assert current(store, org, "@fixed/bot")[1]["instructions"] == "One."
    assert current(store, org, "@fixed/other")[1]["instructions"] == "Two."
    with pytest.raises(Conflict, match="Raise its version") as conflict:
        catalogue.publish(store, org, [], changed)
    assert conflict.value.code == "version_exists"
    raised = DECLARED | {"instructions": "Changed.", "version": "1.0.1"}
    assert catalogue.publish(store, org, [], [parse(raised)]) == 1
    assert current(store, org, "@fixed/bot")[0] == "1.0.1"


def test_changed_code_of_one_version_is_a_version_of_its_own(store: Store) -> None:
    org = uuid7()
    first = definition(input={"type": "object"})
    catalogue.publish(store, org, [first], [])
    changed = again(first, input={"type": "object", "required": ["n"]})
    catalogue.publish(store, org, [changed], [])
    number, manifest = current(store, org, first.name)
    assert number.startswith("1.0.0+")
    assert manifest["input"]["schema"]["required"] == ["n"]
    with store.read() as conn:
        assert agents.resolve(OrgScope(conn, org), first.name, "1.0.0").manifest["input"]["schema"] == {
            "type": "object"
        }
    # Each worker runs what its code was published as, and API and worker agree about what that takes.
    assert catalogue.versions_of(store, org, [first]) == (f"{first.name}@1.0.0",)
    assert catalogue.versions_of(store, org, [changed]) == (f"{first.name}@{number}",)
    catalogue.publish(store, org, [changed], [])
    assert current(store, org, first.name)[0] == number
    catalogue.publish(store, org, [first], [])
    assert current(store, org, first.name)[0] == "1.0.0"


def test_another_docstring_is_no_other_version_and_other_options_still_run_the_old_one(store: Store) -> None:
    org = uuid7()
    first = definition()
    catalogue.publish(store, org, [first], [])
    reworded = again(first, description="Does it well.")
    catalogue.publish(store, org, [reworded], [])
    assert current(store, org, first.name)[0] == "1.0.0"
    with store.read() as conn:
        assert agents.resolve(OrgScope(conn, org), first.name).agent.description == "Does it well."
    slower = again(first, timeout=60)
    catalogue.publish(store, org, [slower], [])
    number, manifest = current(store, org, first.name)
    assert (number.partition("+")[0], manifest["timeout"]) == ("1.0.0", 60)
    assert set(catalogue.versions_of(store, org, [slower])) == {
        f"{first.name}@1.0.0",
        f"{first.name}@{number}",
    }


def test_a_worker_runs_no_version_with_another_number(store: Store) -> None:
    org = uuid7()
    first = definition()
    second = again(first, version="2.0.0")
    catalogue.publish(store, org, [first], [])
    catalogue.publish(store, org, [second], [])
    assert catalogue.versions_of(store, org, [second]) == (f"{first.name}@2.0.0",)


def test_credentials_whose_key_is_lost_are_resealed_and_nothing_else_changes(store: Store) -> None:
    org = uuid7()
    server = {
        "name": "s",
        "url": "https://mcp.example/",
        "headers": {"authorization": "Bearer abcdef0123456789"},
    }
    document = parse(DECLARED | {"mcp_servers": [server]})
    rules = [PublishRules(Sealer(new_key())) for _ in range(2)]
    for rule in rules:
        catalogue.publish(store, org, [], [document], rule)
    with store.read() as conn:
        assert rules[1].sealer is not None
        sealed = agents.resolve(OrgScope(conn, org), "@fixed/bot").version.secrets
        assert sealed is not None
        assert rules[1].sealer.open(sealed)
    changed = parse(DECLARED | {"mcp_servers": [server], "instructions": "Changed."})
    with pytest.raises(Conflict):
        catalogue.publish(store, org, [], [changed], PublishRules(Sealer(new_key())))


def test_the_command_line_refuses_it_with_2(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_HOME", str(home))
    db = databases.opened(Settings(home=home).database)
    with Store(db).begin() as tx:
        identity.insert_organisation(tx, "default")
    db.close()
    file = tmp_path / "bot.json"
    file.write_text(json.dumps(DECLARED))

    def call() -> Any:
        return CliRunner().invoke(app, ["agents", "publish", str(file)])

    assert call().exit_code == 0
    assert call().exit_code == 0
    file.write_text(json.dumps(DECLARED | {"instructions": "Changed."}))
    refused = call()
    assert refused.exit_code == 2
    assert "published already with other content. Raise its version." in refused.stderr


@pytest.mark.parametrize("version", ["one", "1", "1.0", "v1.0.0", "1.0.0 ", "01.0.0", ""])
def test_a_version_that_no_range_would_find_is_refused(version: str) -> None:
    with pytest.raises(InvalidRequest, match="not a semantic version") as refused:
        parse(DECLARED | {"version": version})
    assert (refused.value.code, refused.value.field) == ("invalid_manifest", "version")
    assert parse(DECLARED | {"version": "1.0.0-rc.1+build"}).version == "1.0.0-rc.1+build"


def test_manifests_that_name_what_is_not_there_are_left_out_with_who_calls_them(store: Store) -> None:
    org = uuid7()
    manifests = [
        parse(DECLARED | {"name": "@fixed/lost", "tools": ["no_such_tool"]}),
        parse(DECLARED | {"name": "@fixed/caller", "tools": [{"agent": "@fixed/lost"}]}),
        parse(DECLARED | {"name": "@fixed/orphan", "tools": ["@fixed/missing", "ask_user"]}),
        parse(DECLARED | {"name": "@fixed/loop", "tools": ["@fixed/loop", "@fixed/leaf"]}),
        parse(DECLARED | {"name": "@fixed/leaf"}),
    ]
    left, problems = catalogue.split_known(store, org, [], manifests)
    assert [manifest.name for manifest in left] == ["@fixed/loop", "@fixed/leaf"]
    assert [problem.partition(":")[0] for problem in problems] == [
        "@fixed/lost 1.0.0",
        "@fixed/orphan 1.0.0",
        "@fixed/caller 1.0.0",
    ]
    assert "No worker has registered the tool 'no_such_tool'" in problems[0]
    assert "There is no agent '@fixed/missing' to call" in problems[1]


def test_an_organisation_is_refused_an_unknown_child_and_an_unknown_tool(store: Store) -> None:
    org = uuid7()
    rules = PublishRules(public_tools=PublicTools.parse("*"))
    with store.begin() as tx:
        registered_tools.save(tx, [Tool("there", False, "read", False)])
    with store.begin() as tx:
        named = PublishRules(public_tools=PublicTools.parse("comes_later"))
        agents.publish(tx, org, parse(DECLARED | {"tools": ["comes_later"]}), rules=named)
    for tools, code in ((["@fixed/missing"], "unknown_agent"), (["no_such_tool"], "unknown_tool")):
        with store.begin() as tx, pytest.raises(InvalidRequest) as refused:
            agents.publish(tx, org, parse(DECLARED | {"tools": tools}), rules=rules)
        assert (refused.value.code, refused.value.field) == (code, "tools")


def test_an_object_whose_call_is_a_generator_is_refused_as_one() -> None:
    class Stream:
        async def __call__(self, ctx: Context, args: dict[str, Any]) -> AsyncIterator[int]:
            yield 1

    with pytest.raises(TypeError, match="is a generator; return the result"):
        agent("@fixed/stream")(Stream())  # type: ignore[type-var]


def test_a_manifest_that_is_edited_under_runyard_dev_becomes_a_version_of_its_own_and_can_be_taken_back(
    store: Store,
) -> None:
    org, rules = uuid7(), PublishRules(revises=True)
    first, other = (parse(DECLARED | {"instructions": text}) for text in ("One.", "Two."))
    refused: list[str] = []
    assert catalogue.bring(store, org, [], [first], rules, refused) == ["@fixed/bot@1.0.0"]
    (edited,) = catalogue.bring(store, org, [], [other], rules, refused)
    assert edited.startswith("@fixed/bot@1.0.0+")
    assert catalogue.bring(store, org, [], [other], rules, refused) == [edited]
    assert catalogue.bring(store, org, [], [first], rules, refused) == ["@fixed/bot@1.0.0"]
    assert refused == []
    catalogue.bring(store, org, [], [other], PublishRules(), refused)
    assert len(refused) == 1, "elsewhere a published version never changes"
