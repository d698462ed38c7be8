"""The Python snippets of docs/adapters run, page by page, with a scripted model behind the provider's address."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runyard import adapters, registered
from tests.fakes.model_server import ModelServer, Reply, calls, reply, results_of, system_of, tools_of

PAGES = Path(__file__).parents[2] / "docs" / "adapters"


def respond(request: dict[str, Any]) -> Reply:
    """What the models of the pages answer."""
    if not request.get("tools"):
        return reply("Rain.")
    if "transfer_to_refunds" in tools_of(request):
        return calls(transfer_to_refunds={})
    if "You pay back" in system_of(request):
        return [
            calls(lookup={"order": "A1"}),
            calls(refund={"order": "A1", "amount": 5}),
            reply('{"order": "A1", "refunded": 4}'),
        ][len(results_of(request)) - 1]
    answers = [
        calls(lookup={"order": "A1"}),
        calls(refund={"order": "A1", "amount": 5}),
        calls(final_result={"order": "A1", "refunded": 4}),
    ]
    return answers[len(results_of(request))]


@pytest.mark.timeout(180)
@pytest.mark.processes
@pytest.mark.parametrize("page", ["celery", "langgraph", "openai_agents", "pydantic_ai", "clients"])
def test_the_snippets_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    names: dict[str, object] = {"__name__": f"{page}_doc"}
    with ModelServer() as server:
        server.respond = respond
        monkeypatch.setattr("runyard.authoring._registry", dict(registered()))
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setattr("agents.models._openai_shared._use_responses_by_default", False)
        for number, snippet in enumerate(snippets, 1):
            exec(compile(snippet, f"docs/adapters/{page}.md, snippet {number}", "exec"), names)
    assert len(snippets) >= 2


def test_every_adapter_is_in_the_table() -> None:
    table = (PAGES / "README.md").read_text()
    functions = [name for name in adapters.__all__ if name.islower()]
    assert [name for name in functions if f"{name}(" not in table] == []


def test_importing_the_adapters_imports_no_library_of_theirs() -> None:
    loaded = "import sys, runyard.adapters; print(*{name.partition('.')[0] for name in sys.modules})"
    names = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert {"agents", "pydantic_ai", "openai", "anthropic", "httpx2", "runyard_workers"} & {*names} == set()
