"""docs/recipes.md from top to bottom: its agents in a worker, its callers against a server of this process."""

from __future__ import annotations

import base64
import json
import re
import sys
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import _state
from standardwebhooks import Webhook
from starlette.testclient import TestClient

from runyard import authoring
from tests.api_server import Floor
from tests.fakes.model_server import ModelServer, reply

pytestmark = pytest.mark.timeout(240)
PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
SECRET = "whsec_" + base64.b64encode(b"a secret of the endpoint").decode()


class Recipes:
    """The page, run snippet by snippet; what its agents and callers made is in `names`."""

    def __init__(self, floor: Floor, module: types.ModuleType) -> None:
        self.floor = floor
        self.names = module.__dict__

    def follow(self) -> None:
        for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), 1):
            code = snippet.replace("http://127.0.0.1:8000", self.floor.api.url).replace("whsec_…", SECRET)
            known = set(authoring._registry)
            exec(compile(code, f"docs/recipes.md, snippet {number}", "exec"), self.names)
            for name in authoring._registry.keys() - known:
                self.floor.site.publish_definition(authoring._registry[name], self.floor.site.org)


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipes]:
    folder = tmp_path_factory.mktemp("recipes")
    module = types.ModuleType("recipes_doc")
    before = authoring.registered()
    with pytest.MonkeyPatch.context() as patch, ModelServer() as model, Floor(folder / ".runyard") as floor:
        model.respond = lambda request: reply("Rain.")
        patch.chdir(folder)
        patch.setitem(sys.modules, "recipes_doc", module)
        patch.setenv("OPENAI_BASE_URL", model.url)
        patch.setenv("OPENAI_API_KEY", "sk-test")
        patch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
        page = Recipes(floor, module)
        page.follow()
        yield page
        page.names["client"].close()
    authoring.restore(before)


def test_the_snippets_run_what_was_cancelled_is_undone_and_a_finished_step_is_not_repeated(
    recipes: Recipes,
) -> None:
    assert recipes.names["released"] == ["a room reserved"]
    assert recipes.names["billed"] == ["A1"]  # by the run that failed, and not again by its retry


def test_a_question_is_answered_from_the_chat_and_a_call_of_others_is_refused(recipes: Recipes) -> None:
    client = recipes.names["client"]
    asked = client.run("@recipes/asker", {})
    body = json.dumps({"type": "run.waiting_for_input", "data": client.get(asked.id).raw})
    now = datetime.now(UTC)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp()))}
    signed = headers | {"webhook-signature": Webhook(SECRET).sign("evt_1", now, body)}
    with TestClient(recipes.names["bot"]) as bot:
        assert bot.post("/runyard", content=body.replace("cost", "host"), headers=signed).status_code == 401
        assert bot.post("/runyard", content=body, headers=signed).status_code == 204
        message = {"thread": "thread of Which cost centre?", "text": "CC-1"}
        assert bot.post("/chat", json=message).status_code == 204
    assert client.wait(asked.id).output == "to CC-1"


def test_a_browser_gets_the_events_and_goes_on_behind_the_last(recipes: Recipes) -> None:
    run = recipes.names["client"].run("@recipes/report", {"day": "2026-11-29"})

    def events(**headers: str) -> list[dict[str, Any]]:
        with TestClient(recipes.names["site"]) as site:
            text = site.get(f"/runs/{run.id}/events", headers=headers).text
        return [
            json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
        ]

    types_ = [one["type"] for one in events()]
    assert types_[-1] == "finish"
    assert [one["type"] for one in events(**{"last-event-id": "1"})] == types_[1:]


def test_every_recipe_is_in_the_table_at_the_top() -> None:
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert len(titles) >= 14
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE.partition("\n## ")[0])) == anchors
