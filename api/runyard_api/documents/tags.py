"""What the groups of native operations are for, by tag, in the OpenAPI document."""

from __future__ import annotations

from typing import Final

TAGS: Final[dict[str, str]] = {
    "runs": "Start an agent as a durable task, or ask what starting it would do.",
    "tasks": "Read tasks: their state, result and conversation.",
    "events": "Follow what happens, as pages of the log or as an event stream.",
    "people": "Questions and reviews that wait for a person, and the links that let people answer them.",
    "control": "Cancel and retry tasks, one or many.",
    "schedules": "Agents that run at a date, after a delay or by a cron line.",
    "sessions": "Conversations that span several tasks.",
    "agents": "Agents, their versions, tags and manifests.",
    "limits": "How many runs may go on at once, and how often they may start.",
    "keys": "API keys.",
    "people who sign in": "Sign-in, single sign-on, second factors and the account of the person who calls.",
    "organisations": "The organisations of a person, and the settings of one.",
    "members": "Members of an organisation, and invitations to it.",
    "audit": "The log of every change and who made it.",
    "webhooks": "Webhooks and their deliveries.",
    "files": "Files that were attached to runs.",
    "usage": "Tokens and cost.",
    "ops": "For the operator: the queue, the workers, failed tasks, and what organisations may use.",
    "system": "Whether the server works, and its metrics.",
    "console": "The console, a web page.",
}
