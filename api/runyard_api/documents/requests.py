"""Examples of request bodies in the OpenAPI document, by the model or operation they are for.

A test sends them to a server, which accepts what needs no other object.
"""

from __future__ import annotations

from typing import Any, Final

from runyard_api.documents.values import (
    AGENT_NAME,
    DELIVERY_ID,
    EMAIL,
    MANIFEST,
    SECRET_TEXT,
)

_RUN: Final = {"query": "Summarise the report in three sentences.", "metadata": {"ticket": "4711"}}
_CRON: Final = "0 9 * * 1-5"
_HOOK: Final = "https://example.com/hooks/runyard"

#: By the name of the model.
REQUESTS: Final[dict[str, Any]] = {
    "Acceptance": {"token": "inv_3f9c2a", "name": "Ada Lovelace", "password": SECRET_TEXT},
    "AgentBody": {"name": "Report writer", "system_prompt": "You write short reports.", "is_active": True},
    "AllotmentBody": {"weight": 2, "top_up": 50},
    "BothProofs": {"password": SECRET_TEXT, "code": "123456"},
    "BulkCancelBody": {"filter": {"status": "queued"}, "reason": "No longer needed."},
    "BulkRetryBody": {"filter": {"status": "failed", "created_after": "2026-01-31T00:00:00Z"}},
    "CancelBody": {"reason": "No longer needed."},
    "CodeProof": {"code": "123456"},
    "ForkBody": {"key": "second-attempt"},
    "InvitationBody": {"email": EMAIL, "role": "member"},
    "KeyBody": {"name": "ci", "role": "member", "scopes": ["runs:create", "runs:read"]},
    "LimitBody": {"kind": "agent", "selector": AGENT_NAME, "max_concurrent": 5, "strategy": "enqueue"},
    "LinkBody": {"expires_in": 86400},
    "LoginBody": {"email": EMAIL, "password": SECRET_TEXT},
    "Manifest": MANIFEST,
    "MemberBody": {"email": EMAIL, "role": "viewer"},
    "MessageBody": {"message": "Yes, send it."},
    "NewOrganisation": {"name": "Example Ltd", "owner_email": EMAIL},
    "OrganisationChange": {"name": "Example Ltd", "retention": {"completed": 30, "failed": 90}},
    "PasswordBody": {"current": SECRET_TEXT, "new": "a longer phrase than before"},
    "PasswordProof": {"password": SECRET_TEXT},
    "PauseBody": {"reason": "Holidays."},
    "PreviewBody": {"schedule": _CRON, "timezone": "Europe/Berlin", "count": 3},
    "RedeliverBody": {"ids": [DELIVERY_ID]},
    "ReplayBody": {"state": "dead", "created_after": "2026-01-31T00:00:00Z"},
    "RetryBody": {"fresh": False},
    "ReviewBody": {"action": "approve", "reason": "The numbers are right."},
    "RoleBody": {"role": "admin"},
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
}
