"""Whose the rows of each table are. Pure.

A table without a rule here cannot be exported, nor erased: a test reads the schema and fails for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Whose(StrEnum):
    """Whose the rows of a table are."""

    ORGANISATION = "organisation"  # `column` has its id
    OWNER = "owner"  # whose the row is that `column` names, of the table `owner`
    PERSON = "person"  # `column` has the id of the person
    INSTALLATION = "installation"  # the server's own: how it works
    PASSING = "passing"  # the server's own, and gone in seconds; it may name anything


@dataclass(frozen=True, slots=True)
class Rule:
    """Whose the rows of a table are, and which parts of them an export has.

    `hidden` columns are never exported. `left_out` is why no row is; empty: they are. `by` are the columns that name
    the person who did it, as an actor; `about` those whose JSON or text may name people. `elsewhere` has the
    organisation's id in rows that are the installation's.
    """

    whose: Whose
    column: str = ""
    owner: str = ""
    hidden: frozenset[str] = frozenset()
    left_out: str = ""
    by: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    elsewhere: str = ""


_WORKING: Final = "how the server works; it has nothing that other tables do not"
_HASHES: Final = "it has hashes alone"
_OF_A_PERSON: Final = "it is a person's: runyard users export"


def _own(
    column: str = "org_id",
    hidden: str = "",
    left_out: str = "",
    by: str = "",
    about: str = "",
    elsewhere: str = "",
) -> Rule:
    names = (frozenset(hidden.split()), left_out, tuple(by.split()), tuple(about.split()), elsewhere)
    return Rule(Whose.ORGANISATION, column, "", *names)


def _of(owner: str, column: str, left_out: str = "", about: str = "") -> Rule:
    return Rule(Whose.OWNER, column, owner, left_out=left_out, about=tuple(about.split()))


def _of_person(column: str = "user_id", hidden: str = "", left_out: str = _OF_A_PERSON) -> Rule:
    return Rule(Whose.PERSON, column, hidden=frozenset(hidden.split()), left_out=left_out)


_SERVER: Final = Rule(Whose.INSTALLATION, left_out=_WORKING)

RULES: Final[Mapping[str, Rule]] = {
    "organisations": _own("id"),
    "config_versions": _own("scope", left_out=_WORKING),
    "members": _own(),
    "invitations": _own(hidden="token_hash", by="created_by"),
    "api_keys": _own(hidden="key_hash", by="created_by"),
    "stored_secrets": _own(hidden="value", by="updated_by"),
    "applications": _own(by="created_by"),
    "end_users": _own(),
    "audit": _own(by="actor", about="object_id data"),
    "idempotency": _own(left_out="answers that are kept for a day; they may have what is shown once"),
    "agents": _own(by="created_by"),
    "agent_versions": _own(hidden="secrets"),
    "agent_tags": _of("agents", "agent_id"),
    "registered_tools": _SERVER,
    "datastores": _own(hidden="connection secrets"),
    "documents": _own(),
    "passages": _of("datastores", "datastore_id"),
    "questions": _own(by="answered_by"),
    "answer_links": _own(left_out=_HASHES),
    "tasks": _own(hidden="secrets claim_token", by="created_by"),
    "events": _of("tasks", "task_id", about="data"),
    "journal": _of("tasks", "task_id"),
    "awaited_parts": _of("tasks", "task_id"),
    "event_waits": _own(),
    "sent_events": _own(by="sent_by"),
    "slots": _of("tasks", "task_id", left_out=_WORKING),
    "starts": _of("tasks", "task_id", left_out=_WORKING),
    "limits": _own(),
    "lanes": _own("lane", left_out=_WORKING),
    "queue_places": _own("lane", left_out=_WORKING),
    "workers": _SERVER,
    "worker_agents": _SERVER,
    "outbox": Rule(Whose.PASSING, left_out=_WORKING),
    "files": _own(),
    "schedules": _own(hidden="secrets", by="created_by"),
    "fires": _of("schedules", "schedule_id"),
    "sessions": _own(),
    "messages": _own(by="user_id"),
    "state_values": _own(),
    "statistics": _own(elsewhere="name"),
    "queue_samples": _own(elsewhere="name"),
    "statistics_progress": _SERVER,
    "turns": _own(),
    "endpoints": _own(hidden="secret old_secret"),
    "callbacks": _own(hidden="headers"),
    "deliveries": _own(),
    "users": _of_person("id", hidden="password_hash", left_out=""),
    "logins": _of_person(hidden="token_hash csrf"),
    "identities": _of_person(),
    "second_factors": _of_person(hidden="secret"),
    "recovery_codes": _of_person(hidden="code_hash"),
}
