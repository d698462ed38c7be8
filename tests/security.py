"""What the security suites share: every operation there is, a body each one takes, and one object of each kind.

Everything is derived from the declared operations. A new route is tried by itself; where it needs a body, or
names a new kind of object in its path, the suites fail until it is listed here.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import httpx2

from runyard_api.access import cookies
from runyard_api.fronts import operations
from runyard_api.http.operations import Operation
from runyard_common.identity.rules.roles import PERMISSIONS, Role
from tests.api_server import Api
from tests.members import key, organisation, person

OPERATIONS = operations()
GUARDED = [operation for operation in OPERATIONS if operation.permission is not None]
CHANGING = [operation for operation in GUARDED if operation.method not in ("GET", "HEAD")]
#: What a person's own account holds is refused to keys as such; see test_sign_ins for another person's. Secrets have
#: names of their own in each organisation; test_security_callers has a test of one name in two.
NAMING = [
    operation
    for operation in GUARDED
    if "{" in operation.path
    and "{secret_name}" not in operation.path
    and operation.permission not in cookies.ACCOUNT
]
#: These need no credentials; a new one is added here.
PUBLIC = {
    "native.show_question",  # by a link's token
    "native.answer_question",
    "native.login",
    "native.sign_in_ways",
    "native.sign_in_by_link",  # by the token of a link that this machine's operator was shown
    "native.begin_sign_on",
    "native.finish_sign_on",  # by what the browser kept since it was begun
    "native.accept_invitation",  # by an invitation's token
    "native.healthz",
    "native.readyz",
    "native.prometheus",
    "console.console",  # files without data
    "console.console_part",
    "console.console_part_of_a_folder",
    "appstrate.health",
}
PROFILE = "0b0e7f7e-8c1c-4b7e-9a54-0d6c4ab7c2f1"
_CRON = {"connectionProfileId": PROFILE, "cronExpression": "0 0 1 1 *"}


def name_of(operation: Operation) -> str:
    """How a test's id shows an operation."""
    return f"{operation.name}"


def weakest_refusal(operation: Operation) -> Role | None:
    """The strongest role that lacks the operation's permission; None where all have it."""
    if operation.permission in cookies.ACCOUNT:
        return None  # a person's own, for every role
    lacking = (role for role in Role if operation.permission not in PERMISSIONS[role])
    return next(lacking, None)


@dataclass(frozen=True)
class World:
    """One organisation with one object of each kind, and a stranger's key of another."""

    api: Api
    org_id: str
    key: str
    stranger: str
    ids: dict[str, str]

    def url(self, operation: Operation, path: str | None = None, **ids: str) -> str:
        """The operation's path with this world's ids in it."""
        return (path or operation.paths[0]).replace(":agent}", "}").format(**self.ids | ids)

    def call(self, client: httpx2.Client, operation: Operation, **ids: str) -> httpx2.Response:
        """Call an operation with a body it takes."""
        url = self.url(operation, **ids)
        if operation.name in ("agentbase.get_messages", "agentbase.clear_messages"):
            url += f"?session={self.ids['session_id']}"
        return client.request(operation.method, url, **self.body(operation))

    def body(self, operation: Operation) -> dict[str, Any]:
        """The arguments of a request that carry the operation's body."""
        if operation.method in ("GET", "DELETE"):
            return {}
        if operation.name == "agentbase.index_document":
            form = {"datastore_id": self.ids["datastore_id"]}
            return {"data": form, "files": {"file": ("a.txt", b"text", "text/plain")}}
        if operation.body is None:
            return {}
        return {"json": payloads(self.ids).get(operation.name, {})}


def payloads(ids: dict[str, str]) -> dict[str, Any]:
    """A body that each operation takes; what is not here takes an empty object."""
    fresh = uuid.uuid4().hex[:10]
    return {
        "native.run": {"query": "x"},
        "native.send_event": {"name": "paid"},
        "native.send_message": {"message": "x"},
        "native.review": {"action": "approve"},
        "native.cancel_many": {"filter": {"session_id": fresh}},
        "native.retry_many": {"filter": {"session_id": fresh}},
        "native.create_schedule": {"agent": ids["agent"], "schedule": 3600, "run": {"query": "x"}},
        "native.backfill_schedule": {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"},
        "native.preview_schedule": {"schedule": 3600},
        "native.change_schedule": {"name": "x"},
        "native.change_session": {"strategy": "reject"},
        "native.create_agent": {"name": f"a{fresh}"},
        "native.change_agent": {"is_active": False},
        "native.publish_manifest": {"name": f"@test/m{fresh}", "version": "1.0.0"},
        "native.set_tag": {"version": "1.0.0"},
        "native.change_version": {"yanked": True},
        "native.create_limit": {"kind": "session", "max_concurrent": 9},
        "native.replace_limit": {"kind": "session", "max_concurrent": 1},
        "native.put_secret": {"value": f"secret {fresh}"},
        "native.create_key": {"name": "k"},
        "native.change_password": {"current": "not this one", "new": "another good one"},
        "native.create_organisation": {"name": "o", "owner_email": f"{fresh}@example.com"},
        "native.change_organisation": {"name": fresh},
        "native.allot": {"weight": 2.0},
        "native.add_member": {"email": f"{fresh}@example.com"},
        "native.change_member": {"role": "viewer"},
        "native.invite": {"email": f"{fresh}@example.com"},
        "native.create_webhook": {"url": "https://hooks.example.com/"},
        "native.update_webhook": {"active": False},
        "native.redeliver_many": {"ids": [ids["delivery_id"]]},
        "nara.run_agent": {"agentName": ids["agent"], "args": {}},
        "nugen.run_by_name": {"message": "x"},
        "nugen.run_by_id": {"message": "x"},
        "nugen.create_agent": {"agent_name": f"n{fresh}", "agent_description": "x", "model": ids["model"]},
        "nugen.change_agent": {"agent_description": fresh},
        "agentbase.run_agent": {"message": "x", "background": True},
        "agentbase.create_datastore": {"name": fresh, "type": "documents"},
        "appstrate.create_agent_schedule": _CRON,
        "appstrate.replace_schedule": {"name": "x"},
        "appstrate.create_endpoint": {
            "url": "https://example.com/hook", "events": ["run.failed"], "scope": "organization",
        },
        "appstrate.change_endpoint": {"active": False},
        "appstrate.create_end_user": {"name": "x"},
        "appstrate.change_end_user": {"name": "y"},
        "appstrate.create_application": {"name": fresh},
        "appstrate.change_application": {"name": fresh},
        "appstrate.create_api_key": {"applicationId": ids["application_id"], "name": "k"},
        "appstrate.create_package": {
            "manifest": {"name": f"@test/p{fresh}", "version": "1.0.0"}, "content": "x",
        },
        "appstrate.change_package": {
            "manifest": {"name": ids["package_name"], "version": "1.0.0"}, "content": "y", "lockVersion": 1,
        },
    }  # fmt: skip


def _made(answer: httpx2.Response) -> Any:
    assert answer.status_code < 300, (str(answer.request.url), answer.text)
    return answer.json()


def _secret(client: httpx2.Client) -> str:
    """The name of a secret."""
    return str(_made(client.put("/api/v1/secrets/TOKEN", json={"value": "a secret value"}))["name"])


def _model(client: httpx2.Client) -> str:
    """The id of a model that nugen's agents may be made for."""
    listed = _made(client.get("/api/v3/agents/available_models/"))
    return str((listed["data"] if isinstance(listed, dict) else listed)[0]["id"])


def populate(api: Api, org_id: str) -> World:
    """Make one object of each kind in an organisation, through its own API."""
    own = key(api, org_id)
    name = f"private{uuid.uuid4().hex[:6]}"
    with api.client(own) as client:
        published = {"name": f"@default/{name}", "version": "1.0.0"}
        agent = _made(client.post("/api/v1/agents/manifests", json=published))
        multipart: Any = {"query": (None, "x"), "session_id": (None, "mine"), "file": ("a", b"1")}
        task = _made(client.post(f"/api/v1/agents/{name}/run", files=multipart))
        file_id = _made(client.get(f"/tasks/{task['task_id']}"))["input"]["files"][0]["id"]
        webhook = _made(client.post("/api/v1/webhooks", json={"url": "https://hooks.example.com/"}))
        ping = _made(client.post(f"/api/v1/webhooks/{webhook['id']}/test"))
        later = {"agent": agent["id"], "schedule": 3600, "run": {"query": "x"}}
        application = _made(client.post("/api/applications", json={"name": "shop"}))
        package = f"@shop/{name}"
        manifest = {"name": package, "version": "1.0.0"}
        _made(client.post("/api/packages/agents", json={"manifest": manifest, "content": "x"}))
        store = {"name": "notes", "type": "documents"}
        ids = {
            "agent": agent["id"], "agent_id": agent["id"], "agent_name": name, "tag": "latest", "version": "1.0.0",
            "task_id": task["task_id"], "run_id": task["task_id"], "session_id": task["session_id"],
            "file_id": file_id, "webhook_id": webhook["id"], "delivery_id": ping["delivery_id"],
            "limit_id": _made(client.post("/api/v1/limits", json={"kind": "session", "max_concurrent": 9}))["id"],
            "key_id": _made(client.post("/api/v1/keys", json={"name": "k"}))["id"],
            "schedule_id": _made(client.post("/api/v1/schedules", json=later))["id"],
            "sign_in_id": "si_nothing", "worker_id": "nothing", "secret_name": _secret(client),
            "invitation_id": _made(client.post("/api/v1/invitations", json={"email": "a@example.com"}))["id"],
            "user_id": person(api, f"{name}@example.com", (org_id, Role.MEMBER)),
            "application_id": application["id"], "scope": "@shop", "name": name,
            "package": package.replace("/", "%2F"), "package_name": package,
            "end_user_id": _made(client.post("/api/end-users", json={"name": "A"}))["id"],
            "datastore_id": _made(client.post("/create-datastore", json=store))["datastore_id"],
            "organisation_id": org_id, "token": "nothing", "part": "console.js", "folder": "pages",
            "script": "runs.js", "model": _model(client),
        }  # fmt: skip
    return World(api, org_id, own, key(api, organisation(api)), ids)
