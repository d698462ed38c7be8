"""Bounds: how much of everything a caller shapes is taken. What enforces one reads it here; docs/limits.md lists them.

How many objects an organisation may have is in `runyard_common.identity.rules.caps`. The bounds of single fields
are in the models of requests and in the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so much of something, else the refusal `status` `code`. `setting` changes it, where there is one."""

    name: str
    what: str
    most: int
    unit: str
    status: int
    code: str
    setting: str = ""


HEAD: Final = Bound(
    "head", "Path, query and headers of a request", 64 * 1024, "bytes", 431, "headers_too_large"
)
JSON_BODY: Final = Bound(
    "json_body", "A JSON body, and a text field of a form", 10 * 2**20, "bytes", 413, "payload_too_large",
    "max_body_bytes",
)  # fmt: skip
OPEN_BODY: Final = Bound(
    "open_body", "A JSON body of a caller without credentials", 16 * 1024, "bytes", 413, "payload_too_large"
)
UPLOAD: Final = Bound(
    "upload", "A multipart body", 100 * 2**20, "bytes", 413, "payload_too_large", "max_upload_bytes"
)
YAML_BODY: Final = Bound("yaml_body", "A manifest in YAML", 256 * 1024, "bytes", 413, "payload_too_large")
YAML_VALUES: Final = Bound(
    "yaml_values", "Values in a manifest in YAML", 10_000, "values", 400, "too_many_values"
)
JSON_DEPTH: Final = Bound("json_depth", "Nesting of JSON", 64, "levels", 400, "too_deep")
JSON_VALUES: Final = Bound("json_values", "Values in a JSON body", 250_000, "values", 400, "too_many_values")
FORM_FILES: Final = Bound("form_files", "Files of a form", 100, "files", 400, "bad_multipart")
FORM_FIELDS: Final = Bound("form_fields", "Text fields of a form", 300, "fields", 400, "bad_multipart")
IDEMPOTENCY_KEY: Final = Bound(
    "idempotency_key", "An Idempotency-Key", 255, "characters", 400, "invalid_idempotency_key"
)
METADATA: Final = Bound(
    "metadata", "metadata of a run, schedule or webhook, as JSON", 16_384, "bytes", 400, "invalid_field"
)
PROSE: Final = Bound(
    "prose", "A prompt, rule or description in a run's request", 100_000, "characters", 400, "invalid_field"
)
SESSION_NAME: Final = Bound("session_name", "A session's name", 255, "characters", 400, "invalid_field")
VERSION: Final = Bound("version", "A version, tag or range", 64, "characters", 400, "invalid_field")
LIST_ROWS: Final = Bound("list_rows", "?limit of a list", 100, "rows", 400, "invalid_field")
WAIT: Final = Bound("wait", "?wait of a task", 3_600, "seconds", 400, "invalid_field")
RUN_SCHEDULES: Final = Bound(
    "run_schedules", "schedules of a run's request", 50, "schedules", 400, "invalid_field"
)
WAITING_RUNS: Final = Bound(
    "waiting_runs", "Waiting runs of an organisation", 100_000, "runs", 429, "backlog_full", "max_queued"
)
SCHEDULES: Final = Bound(
    "schedules", "Schedules of an organisation that may still be due", 1_000, "schedules", 409, "too_many_schedules",
    "max_schedules",
)  # fmt: skip
WEBHOOKS: Final = Bound(
    "webhooks", "Webhooks of an organisation", 20, "webhooks", 400, "webhook_limit_reached"
)
REQUESTS: Final = Bound(
    "requests", "Requests of an organisation, but the operator's own", 6_000, "a minute", 429, "rate_limited",
    "requests_per_minute",
)  # fmt: skip
OPEN_REQUESTS: Final = Bound(
    "open_requests", "Requests without a key of one address, but for health, at one api process", 1_200, "a minute",
    429, "rate_limited", "open_requests_per_minute",
)  # fmt: skip
UNREAD: Final = Bound(
    "unread", "Unread bytes of an organisation's answers, at one api process", 256 * 2**20, "bytes", 429,
    "too_many_unread_bytes", "max_unread_bytes",
)  # fmt: skip
ALL_UNREAD: Final = Bound(
    "all_unread", "Unread bytes of all answers, at one api process", 1024 * 2**20, "bytes", 503,
    "no_room_for_answers", "max_all_unread_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunBound:
    """At most so much in one run, which else fails with `code`."""

    what: str
    most: int
    unit: str
    code: str
    setting: str


OUTPUT: Final = RunBound("The output, as JSON", 5 * 2**20, "bytes", "output_too_large", "max_output_bytes")
STEP: Final = RunBound(
    "The result of a step, as JSON", 5 * 2**20, "bytes", "step_result_too_large", "max_step_bytes"
)
EVENT: Final = RunBound(
    "An event, question or review, as JSON", 256 * 2**10, "bytes", "event_too_large", "max_event_bytes"
)
EVENTS: Final = RunBound("Events that the agent reports", 10_000, "events", "too_many_events", "max_events")
QUESTIONS: Final = RunBound(
    "Questions and reviews in all", 10_000, "questions", "too_many_questions", "max_questions"
)
OPEN_QUESTIONS: Final = RunBound(
    "Questions and reviews open at once", 100, "questions", "too_many_open_questions", "max_open_questions"
)
STATE_VALUES: Final = RunBound("Values of `ctx.state` of a session", 1_000, "values", "state_full", "")
STATE_VALUE: Final = RunBound("One value of `ctx.state`, as JSON", 256 * 2**10, "bytes", "state_full", "")
STATE_BYTES: Final = RunBound(
    "All values of `ctx.state` of a session, as JSON", 2**20, "bytes", "state_full", ""
)
RUN_BOUNDS: Final = (
    OUTPUT, STEP, EVENT, EVENTS, QUESTIONS, OPEN_QUESTIONS, STATE_VALUES, STATE_VALUE, STATE_BYTES,
)  # fmt: skip

BOUNDS: Final[Mapping[str, Bound]] = {
    bound.name: bound
    for bound in (
        HEAD, JSON_BODY, OPEN_BODY, UPLOAD, YAML_BODY, YAML_VALUES, JSON_DEPTH, JSON_VALUES, FORM_FILES, FORM_FIELDS,
        IDEMPOTENCY_KEY, METADATA, PROSE, SESSION_NAME, VERSION, LIST_ROWS, WAIT, RUN_SCHEDULES, WAITING_RUNS,
        SCHEDULES, WEBHOOKS, REQUESTS, OPEN_REQUESTS, UNREAD, ALL_UNREAD,
    )
}  # fmt: skip
