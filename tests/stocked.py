"""One of each kind of object, so that a test can call every route of the route table."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import insert

from runyard_api.http.operations import Operation
from runyard_common.human_tasks import tables
from runyard_common.human_tasks.service import answer_links
from runyard_common.values.ids import uuid7
from tests.api_server import Api


def link_to_a_question(api: Api, task_id: str, org_id: str = "") -> str:
    """The token of a link to an open question of a task."""
    question: dict[str, Any] = {
        "id": uuid7(), "org_id": org_id or api.state.org_id, "task_id": task_id, "key": "q", "kind": "question",
        "payload": {"text": "Which?"}, "state": "open", "created_at": api.state.now(),
    }  # fmt: skip
    with api.state.store.begin() as tx:
        tx.conn.execute(insert(tables.Question.__table__), question)
        return answer_links.create(tx, org_id or api.state.org_id, question["id"]).token


class Stocked:
    """An api whose organisation has one of each kind of object: `ids` stand for the placeholders of paths."""

    def __init__(self, api: Api) -> None:
        self.api = api
        with api.client() as client:
            manifest = {"name": "@large/one", "version": "1.0.0", "kind": "declared", "instructions": "hi"}
            made = client.post("/api/v1/agents/manifests", json=manifest)
            agent = made.raise_for_status().json()
            run = {"query": "hi", "session_id": "talk"}
            task = client.post("/api/v1/agents/@large/one/run", json=run).raise_for_status().json()
            schedule = {"agent": "@large/one", "schedule": "0 0 1 1 *", "run": {"query": "hi"}}
            planned = client.post("/api/v1/schedules", json=schedule).raise_for_status().json()
            client.post(f"/tasks/{task['task_id']}/message", json={"message": "more"}).raise_for_status()
            hook = {"url": "https://example.com/hook"}
            webhook = client.post("/api/v1/webhooks", json=hook).raise_for_status().json()
            sent = client.post(f"/api/v1/webhooks/{webhook['id']}/test").raise_for_status().json()
            limit = {"kind": "model", "selector": "x", "max_concurrent": 1}
            limited = client.post("/api/v1/limits", json=limit).raise_for_status().json()
            user = client.post("/api/end-users", json={"name": "a"}).raise_for_status().json()
        self.token = link_to_a_question(api, task["task_id"])
        self.ids = {
            "task_id": task["task_id"], "run_id": task["task_id"], "session_id": task["session_id"],
            "agent": agent["agent_group_id"], "agent_id": agent["agent_group_id"], "package": "@large%2Fone",
            "scope": "@large", "name": "one", "version": "1.0.0", "schedule_id": planned["id"],
            "webhook_id": webhook["id"], "delivery_id": sent["delivery_id"], "limit_id": limited["id"],
            "end_user_id": user["id"], "application_id": user["applicationId"], "part": "console.js",
            "folder": "pages", "script": "runs.js",
            "token": self.token, "tag": "latest", "key_id": uuid7(), "user_id": uuid7(),
            "organisation_id": api.state.org_id,
            "invitation_id": uuid7(), "secret_name": "TOKEN", "file_id": uuid7(), "agent_name": "one",
        }  # fmt: skip

    def path(self, operation: Operation) -> str:
        """The operation's path with ids in place of its placeholders; a new placeholder needs one in `ids`."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: self.ids[found[1]], operation.paths[0])
