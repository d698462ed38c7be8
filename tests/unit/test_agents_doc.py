"""The Python snippets of docs/agents.md run, in order, as a newcomer would run them."""

from __future__ import annotations

import inspect
import re
import sys
import types
from pathlib import Path

import pytest

import runyard
from runyard import tools
from runyard_common.settings import Settings
from runyard_workers.agent import events
from runyard_workers.agent_code.values import Bounds

#: What a page shows as code.
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()


@pytest.mark.timeout(300)
@pytest.mark.processes
def test_the_snippets_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # What they register is theirs alone: other tests of this process have tools of the same names.
    monkeypatch.setattr("runyard.tools._registry", dict(tools._registry))
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) == 14
    module = types.ModuleType("agents_doc")  # dataclasses look theirs up
    monkeypatch.setitem(sys.modules, "agents_doc", module)
    for number, snippet in enumerate(snippets, 1):
        exec(compile(snippet, f"docs/agents.md, snippet {number}", "exec"), module.__dict__)


def test_every_event_is_shown() -> None:
    made = [
        events.thinking(1, "a", ""),
        events.message(1, "a", ""),
        events.tool_call(1, "a", "", "", {}, ""),
        events.tool_result(1, "", "", "ok", None, 0.0),
        events.handoff(1, "a", "b", ""),
        events.output_invalid(1, [], 1),
        events.output_truncated(1, "a", None),
        events.final_output("", None),
        events.mcp_server("", "failed"),
        events.workflow("", "started"),
        events.workflow_step("", "", "started"),
        events.attachment("", "read"),
    ]
    assert [type_ for type_, _ in made if f"`{type_}`" not in PAGE] == []
    assert all("status" not in data for _, data in made)  # the log's own


def test_every_row_of_how_runs_end_is_named_by_a_test() -> None:
    section = PAGE.partition("## How runs end")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    named = {cell.strip(" |`") for *_, cell in rows} - {"the same"}
    tests = "".join(file.read_text() for file in (Path(__file__).parents[1]).rglob("test_*.py"))
    assert len(named) > 10
    assert [name for name in named if f"def test_{name}(" not in tests] == []


def test_every_bound_is_in_the_page_with_its_setting() -> None:
    for field in Bounds.__dataclass_fields__:
        name = field if f"max_{field}" in Settings.model_fields else f"{field}_bytes"
        assert f"`RUNYARD_MAX_{name.upper()}`" in PAGE
        assert getattr(Bounds(), field) == getattr(Settings(), f"max_{name}")


@pytest.mark.parametrize("name", sorted(runyard.__all__))
def test_every_public_name_is_in_the_docs(name: str) -> None:
    pages = [file.read_text() for file in (Path(__file__).parents[2] / "docs").glob("*.md")]
    assert any(re.search(rf"\b{name}\b", code) for page in pages for code in CODE.findall(page)), name


@pytest.mark.parametrize("kind", [runyard.Context, runyard.BlockingContext])
def test_every_call_of_the_context_is_in_the_page(kind: type) -> None:
    part = PAGE.partition("## The context")[2].partition("\n## ")[0]
    calls = {name for name in dir(kind) if not name.startswith("_")}
    calls |= set(inspect.get_annotations(kind.__mro__[1]))  # what both kinds know of their run
    assert {name for name in calls if f"ctx.{name}" not in part} == set()
