"""Examples of request bodies in the OpenAPI document, by the model or operation they are for.

A test sends them to a server, which accepts what needs no other object.
"""

from __future__ import annotations

from typing import Any, Final

from runyard_api.documents.values import (
    AGENT_NAME,
    APPLICATION_ID,
    DELIVERY_ID,
    EMAIL,
    MANIFEST,
    PROFILE_ID,
    SECRET_TEXT,
)

_RUN: Final = {"query": "Summarise the report in three sentences.", "metadata": {"ticket": "4711"}}
_CRON: Final = "0 9 * * 1-5"
_HOOK: Final = "https://example.com/hooks/runyard"

#: By the name of the model.
BODIES: Final[dict[str, Any]] = {
    "Acceptance": {"token": "inv_3f9c2a", "name": "Ada Lovelace", "password": SECRET_TEXT},
    "AgentBody": {"name": "Report writer", "system_prompt": "You write short reports.", "is_active": True},
    "AgentbaseDatastoreBody": {"name": "orders", "type": "documents"},
    "AgentbaseRunBody": {
        "message": "Which orders are late?",
        "system": "You are an assistant of the shop.",
        "mode": "fast",
        "rules": ["Answer in one sentence."],
    },
    "AllotmentBody": {"weight": 2, "top_up": 50},
    "ApplicationBody": {"name": "shop", "settings": {"region": "eu"}},
    "ApplicationChange": {"name": "shop, Europe"},
    "AppstrateKeyBody": {"applicationId": APPLICATION_ID, "name": "ci", "scopes": ["agents:run"]},
    "AppstrateScheduleBody": {
        "connectionProfileId": PROFILE_ID,
        "cronExpression": _CRON,
        "name": "Every working day",
        "timezone": "Europe/Berlin",
    },
    "AppstrateScheduleChange": {"cronExpression": "0 7 * * 1-5", "enabled": True},
    "AppstrateWebhookBody": {
        "url": _HOOK,
        "events": ["run.completed", "run.failed"],
        "scope": "organization",
    },
    "AppstrateWebhookChange": {"active": False},
    "BothProofs": {"password": SECRET_TEXT, "code": "123456"},
    "BulkCancelBody": {"filter": {"status": "queued"}, "reason": "No longer needed."},
    "BulkRetryBody": {"filter": {"status": "failed", "created_after": "2026-01-31T00:00:00Z"}},
    "CancelBody": {"reason": "No longer needed."},
    "CodeProof": {"code": "123456"},
    "EndUserBody": {
        "name": "Ada Lovelace",
        "email": EMAIL,
        "externalId": "customer-17",
        "metadata": {"plan": "pro"},
    },
    "EndUserChange": {"name": "Ada King", "metadata": {"plan": None}},
    "ForkBody": {"key": "second-attempt"},
    "InvitationBody": {"email": EMAIL, "role": "member"},
    "KeyBody": {"name": "ci", "role": "member", "scopes": ["runs:create", "runs:read"]},
    "LimitBody": {"kind": "agent", "selector": AGENT_NAME, "max_concurrent": 5, "strategy": "enqueue"},
    "LinkBody": {"expires_in": 86400},
    "LoginBody": {"email": EMAIL, "password": SECRET_TEXT},
    "Manifest": MANIFEST,
    "MemberBody": {"email": EMAIL, "role": "viewer"},
    "MessageBody": {"message": "Yes, send it."},
    "NaraRunBody": {"agentName": "writer", "args": {"topic": "sales in January"}},
    "NewOrganisation": {"name": "Example Ltd", "owner_email": EMAIL},
    "NugenChangeBody": {"agent_description": "Writes short reports.", "temperature": 0.2},
    "NugenCreateBody": {
        "agent_name": "report writer",
        "agent_description": "Writes reports.",
        "model": "openai:gpt-5-mini",
        "instructions": "You write short reports.",
    },
    "NugenRunBody": {"message": "Summarise the report in three sentences."},
    "OrganisationChange": {"name": "Example Ltd", "retention": {"completed": 30, "failed": 90}},
    "PackageBody": {
        "manifest": {"name": AGENT_NAME, "version": "1.0.0"},
        "content": "You write short reports.",
    },
    "PackageChange": {
        "manifest": {"name": AGENT_NAME, "version": "1.1.0"},
        "content": "You write very short reports.",
        "lockVersion": 1,
    },
    "PackageVersionBody": {"version": "1.1.0"},
    "PasswordBody": {"current": SECRET_TEXT, "new": "a longer phrase than before"},
    "PasswordProof": {"password": SECRET_TEXT},
    "PauseBody": {"reason": "Holidays."},
    "PreviewBody": {"schedule": _CRON, "timezone": "Europe/Berlin", "count": 3},
    "RedeliverBody": {"ids": [DELIVERY_ID]},
    "ReplayBody": {"state": "dead", "created_after": "2026-01-31T00:00:00Z"},
    "RetryBody": {"fresh": False},
    "ReviewBody": {"action": "approve", "reason": "The numbers are right."},
    "RoleBody": {"role": "admin"},
    "RunBody": {"input": {"topic": "sales in January"}},
    "RunRequest": _RUN,
    "ScheduleBody": {
        "agent": AGENT_NAME,
        "schedule": _CRON,
        "timezone": "Europe/Berlin",
        "run": _RUN,
        "name": "Every working day",
    },
    "ScheduleChange": {"schedule": "0 7 * * 1-5", "name": "Every working day, earlier"},
    "SessionChange": {"strategy": "reject"},
    "SignOnBody": {"invitation": "inv_3f9c2a"},
    "TagBody": {"version": "1.0.0"},
    "VersionChange": {"yanked": True},
    "WebhookBody": {"url": _HOOK, "events": ["run.completed", "run.failed"], "payload_mode": "summary"},
    "WebhookChange": {"active": False},
}
#: Of multipart bodies, by operation.
FORMS: Final[dict[str, Any]] = {
    "native.run": {"query": _RUN["query"], "files": ["report.pdf"]},
    "agentbase.index_document": {"file": "handbook.pdf", "datastore_id": "ds_3f9c2a"},
    "appstrate.start_run": {"input": '{"topic": "sales in January"}'},
}
