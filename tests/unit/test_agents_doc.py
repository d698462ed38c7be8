"""The Python snippets of docs/agents.md run, in order, as a newcomer would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workers.agent import events

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()


@pytest.mark.timeout(120)
def test_the_snippets_run() -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) == 4
    names: dict[str, object] = {"__name__": "agents_doc"}
    for number, snippet in enumerate(snippets, 1):
        exec(compile(snippet, f"docs/agents.md, snippet {number}", "exec"), names)


def test_every_event_is_told() -> None:
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
