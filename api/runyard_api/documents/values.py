"""Values that examples in the OpenAPI document are composed of, by the name of the field or parameter.

They belong together: every example shows the same task of the same agent.
"""

from __future__ import annotations

from typing import Any, Final

TASK_ID: Final = "019c1f2a-5b70-7c3e-9d51-6f0a8b1c2d3e"
AGENT_ID: Final = "019c1f2a-1d40-7b12-8a05-2c3d4e5f6a7b"
VERSION_ID: Final = "019c1f2a-1d41-7e90-b1c2-3d4e5f6a7b8c"
SESSION_ID: Final = "019c1f2a-5b6f-7f00-a1b2-c3d4e5f6a7b8"
ORG_ID: Final = "019c1f29-0a10-7d20-8e30-4f5061728394"
USER_ID: Final = "019c1f29-0b20-7e30-9f40-5061728394a5"
OBJECT_ID: Final = "019c1f2b-3c50-7f60-8a70-8192a3b4c5d6"
DELIVERY_ID: Final = "019c1f2b-4d60-7a70-9b80-92a3b4c5d6e7"
PROFILE_ID: Final = "0b0e7f7e-8c1c-4b7e-9a54-0d6c4ab7c2f1"
APPLICATION_ID: Final = "app_019c1f2b"
AGENT_NAME: Final = "@example/writer"
EMAIL: Final = "ada@example.com"
SECRET_TEXT: Final = "correct horse battery staple"  # noqa: S105 - an example
#: A moment of each kind, and when it ended.
NOW: Final = "2026-01-31T12:00:00.000000Z"
LATER: Final = "2026-01-31T12:00:04.000000Z"
QUERY: Final = "Summarise the report in three sentences."
ANSWER: Final = "Sales rose by four per cent."
MANIFEST: Final[dict[str, Any]] = {
    "name": AGENT_NAME,
    "version": "1.0.0",
    "description": "Writes short reports.",
    "instructions": "You write short reports.",
}

#: What a field of this name holds. One whose value does not fit its schema gets a value of the schema's type.
VALUES: Final[dict[str, tuple[Any, ...]]] = {
    # identifiers
    "task_id": (TASK_ID,),
    "taskId": (TASK_ID,),
    "last_task_id": (TASK_ID,),
    "runId": (f"exec_{TASK_ID}",),
    "run_id": (f"exec_{TASK_ID}",),
    "parent_id": (None, OBJECT_ID),
    "task_ids": ([TASK_ID],),
    "sessionId": (f"api-{TASK_ID}",),
    "agentExecutionId": (TASK_ID,),
    "id": (OBJECT_ID,),
    "agent_id": (VERSION_ID,),
    "agent_group_id": (AGENT_ID,),
    "agent": (AGENT_NAME,),
    "agent_name": (AGENT_NAME,),
    "packageId": (AGENT_NAME,),
    "secret_name": ("API_TOKEN",),
    "value": (SECRET_TEXT,),
    "package": ("%40example%2Fwriter",),
    "scope": ("@example", "organization"),
    "name": ("writer",),
    "full_name": ("Ada Lovelace",),
    "version": ("1.0.0",),
    "tag": ("latest",),
    "tags": ({"latest": "1.0.0"}, ["latest"]),
    "versions": ([{"version": "1.0.0"}],),
    "session_id": (SESSION_ID,),
    "session": (SESSION_ID,),
    "org_id": (ORG_ID,),
    "organisation_id": (ORG_ID,),
    "user_id": (USER_ID,),
    "end_user_id": (None, "eu_019c1f2b"),
    "application_id": (None, APPLICATION_ID),
    "applicationId": (APPLICATION_ID,),
    "delivery_id": (DELIVERY_ID,),
    "delivery_ids": ([DELIVERY_ID],),
    "webhook_id": (OBJECT_ID,),
    "request_id": (f"req_{PROFILE_ID}",),
    "requestId": (f"req_{PROFILE_ID}",),
    "X-Org-Id": (ORG_ID,),
    "X-Session-ID": ("support-4711",),
    "Idempotency-Key": ("order-4711",),
    "If-None-Match": ('"5-2"',),
    "Last-Event-ID": ("12",),
    "part": ("app.js",),
    "token": ("ans_3f9c2a",),
    # a run
    "status": ("completed", "success", "ACTIVE", "healthy", "published"),
    "state": ("completed", "success", "active"),
    "title": ("Summarise the report",),
    "message": (QUERY,),
    "user_input": (QUERY,),
    "input": ({"query": QUERY},),
    "output": (ANSWER,),
    "model_output": (ANSWER,),
    "response": (ANSWER,),
    "result": ({"summary": ANSWER}, ANSWER),
    "content": (ANSWER,),
    "usage": ({"input_tokens": 812, "output_tokens": 64},),
    "cost": (0.0042,),
    "attempt": (1,),
    "metadata": ({"ticket": "4711"},),
    "links": ({"self": f"/api/v1/tasks/{TASK_ID}"},),
    "error": (None, "The model did not answer."),
    "code": (None, "provider_error"),
    "queue": (None,),
    "question": (None,),
    "review": (None,),
    "poll_after_ms": (500,),
    "front": ("native",),
    "would": ("start",),
    "held_by": (None,),
    "limit": ("agent:@example/writer", 20),
    "selector": (AGENT_NAME,),
    "messages": ([{"role": "user", "content": QUERY}, {"role": "assistant", "content": ANSWER}],),
    "role": ("member", "assistant"),
    "type": ("run", "message"),
    "data": ({"status": "completed"},),
    "payload": ({"type": "run.completed", "data": {"task_id": TASK_ID}},),
    # schedules and webhooks
    "schedule": ("0 9 * * 1-5",),
    "cron": ("0 9 * * 1-5",),
    "cronExpression": ("0 9 * * 1-5",),
    "timezone": ("Europe/Berlin",),
    "local": ("2026-01-31T13:00:00+01:00",),
    "url": ("https://example.com/hooks/runyard",),
    "uri": ("otpauth://totp/Runyard:ada%40example.com?secret=JBSWY3DPEHPK3PXP&issuer=Runyard",),
    "link": ("https://runyard.example.com/api/v1/answer/ans_3f9c2a",),
    "events": (["run.completed", "run.failed"],),
    "event": ("run.completed",),
    "event_type": ("run.completed",),
    "secret": ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
    "status_code": (200,),
    # members and keys
    "email": (EMAIL,),
    "key": ("ry_3f9c2a7b8d",),
    "prefix": ("ry_3f9c",),
    "keyPrefix": ("ask_3f9c",),
    "scopes": (["runs:create", "runs:read"],),
    "permissions": (["runs:create", "runs:read"],),
    "created_by": (f"user:{USER_ID}",),
    "recovery_codes": (["7k2m-9qpd", "x4tb-61hw"],),
    # errors
    "detail": ("The field 'agent' is required.",),
    "field": ("agent",),
    "next_cursor": (None,),
    "has_more": (False,),
    "hasMore": (False,),
    "manifest": (MANIFEST,),
    "model": ("openai:gpt-5-mini",),
    "temperature": (0.7,),
    "filename": ("handbook.pdf",),
    "most_used_model": ("openai:gpt-5-mini",),
    "usage_by_model": ({"openai:gpt-5-mini": 12},),
    # kinds and words
    "kind": ("question", "cron", "agent", "run"),
    "strategy": ("enqueue",),
    "overlap": ("skip",),
    "catch_up": ("last",),
    "style": ("native",),
    "payload_mode": ("full",),
    "actor": (f"user:{USER_ID}",),
    "action": ("schedule.create",),
    "address": ("203.0.113.7",),
    "host": ("worker-1",),
    "by": ("agent",),
    "of": ("session",),
    "issuer": ("https://login.example.com",),
    "iss": ("https://login.example.com",),
    "qr": ("<svg xmlns='http://www.w3.org/2000/svg'/>",),
    "answer": ("accepted",),
    "description": ("Writes short reports.",),
    "agent_description": ("Writes short reports.",),
    "system_prompt": ("You write short reports.",),
    "base_model": ("openai:gpt-5-mini",),
    "base_model_name": ("openai:gpt-5-mini",),
    "creator": (EMAIL,),
    "endpoint": ("/api/v3/agents/run-agents/writer/run",),
    "integrity": ("sha256-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",),
    "cursor": ("MDE5YzFmMmEtNWI3MC03YzNlLTlkNTEtNmYwYThiMWMyZDNl",),
    "q": ("report",),
    "types": ("status,message",),
    "offset": ("0", 0),
    "user": (USER_ID,),
    "verbose": ("true", True),
    "startingAfter": ("eu_019c1f2b",),
    "endingBefore": ("eu_019c1f2b",),
}

_BUSY: Final = {"status": "pending", "poll_after_ms": 500}
#: What an answer of this model holds in place of what its fields' names suggest.
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "Accepted": _BUSY | {"message": "It is about to start.", "schedules": None},
    "RunPreview": {"status": "pending", "limits": []},
    "Task": {
        "message": "It has ended; its output is final.",
        "output": {"summary": ANSWER},
        "error": None,
        "poll_after_ms": None,
    },
    "Event": {"seq": 3, "type": "run.completed", "data": {"cost": 0.0042}},
    "Message": {"role": "assistant", "type": "message", "content": ANSWER},
    "Question": {"text": "Shall I send the report?"},
    "ScheduleView": {"run": {"query": QUERY}, "name": "Every working day"},
}
