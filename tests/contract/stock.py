"""One object of each kind, by the placeholder that names it in paths: for suites that try every route."""

from __future__ import annotations

import httpx2

_NAME = "@stock/agent"
_PROFILE = "0b0e7f7e-8c1c-4b7e-9a54-0d6c4ab7c2f1"


def stock(client: httpx2.Client) -> dict[str, str]:
    """Make them with an administrator's client."""

    def made(path: str, body: object = None, **options: object) -> dict[str, str]:
        answer = client.post(path, json=body, **options)  # type: ignore[arg-type]
        assert answer.is_success, (path, answer.text)
        return dict(answer.json())

    manifest = {"name": _NAME, "version": "1.0.0"}
    made("/api/packages/agents", {"manifest": manifest, "content": "You answer."})
    agent = client.get(f"/api/v1/agents/{_NAME}").json()
    form = {"query": (None, "hello"), "session_id": (None, "talk"), "file": ("a.txt", b"text", "text/plain")}
    run = made(f"/api/v1/agents/{_NAME}/run", files=form)
    task = client.get(f"/api/v1/tasks/{run['task_id']}").json()
    cron = {"connectionProfileId": _PROFILE, "cronExpression": "0 0 1 1 *"}
    hook = {"url": "https://example.com/hook", "events": ["run.failed"], "scope": "organization"}
    application = made("/api/applications", {"name": "shop"})["id"]
    return {
        "agent": _NAME,
        "agent_id": agent["id"],
        "agent_name": "agent",
        "scope": "@stock",
        "name": "agent",
        "package": _NAME.replace("/", "%2F"),
        "version": "1.0.0",
        "tag": "latest",
        "task_id": run["task_id"],
        "run_id": f"exec_{run['task_id']}",
        "session_id": run["session_id"],
        "application_id": application,
        "schedule_id": made(f"/api/agents/{_NAME}/schedules", cron)["id"],
        "webhook_id": made("/api/webhooks", hook)["id"],
        "end_user_id": made("/api/end-users", {"name": "A"})["id"],
        "limit_id": made("/api/v1/limits", {"kind": "agent", "selector": _NAME, "max_concurrent": 3})["id"],
        "key_id": made("/api/v1/keys", {"name": "spare", "role": "viewer"})["id"],
        "file_id": task["input"]["files"][0]["id"],
    }
