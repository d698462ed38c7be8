"""Prepare runs: from a parsed request to what `submissions.submit` stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from runyard_common.agents.rules import tool_access
from runyard_common.agents.rules.tool_access import NOT_OPENED, PublicTools
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.agents.service.model_choice import ModelChoice
from runyard_common.credentials.rules import documents
from runyard_common.credentials.rules.documents import SEALED
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database import columns
from runyard_common.outbound import OutboundPolicy
from runyard_common.runs.rules import deadlines, run_options
from runyard_common.runs.rules.admission import Strategy
from runyard_common.runs.rules.run_request import RunRequest, options_of
from runyard_common.runs.rules.specs import CallbackTo, Judged, RunSpec, SessionRef
from runyard_common.schedules.rules import scheduled_run
from runyard_common.schemas import checks, outputs
from runyard_common.settings import Settings
from runyard_common.values.errors import Forbidden, InvalidRequest
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonText

_LONGEST_TITLE: Final = 120


#: Members of a value whose judging by a schema is no work for a thread.
_FEW: Final = 100


@dataclass(frozen=True, slots=True)
class RunRules:
    """What this installation lets runs do, and with which keys and models."""

    sealer: Sealer
    policy: OutboundPolicy
    max_queued: int
    models: ModelChoice
    max_schedules: int = 1000
    public_tools: PublicTools = NOT_OPENED

    @property
    def publishing(self) -> PublishRules:
        """The rules of publishing agents."""
        return PublishRules(self.sealer, self.public_tools)

    @staticmethod
    def of(settings: Settings, sealer: Sealer, *, keyed: bool = True) -> RunRules:
        """The rules these settings make. `keyed`: see `ModelChoice`."""
        return RunRules(
            sealer,
            OutboundPolicy.of(settings),
            settings.max_queued,
            ModelChoice(settings, keyed),
            settings.max_schedules,
            PublicTools.parse(settings.public_tools),
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a run is made. `front` is the contract it came by; `actor` key:<id> or user:<id>."""

    org_id: str
    actor: str
    front: str = "native"
    key_id: str | None = None
    end_user_id: str | None = None
    session_scope: str = ""
    judged: Judged | None = None


def prepare(
    request: RunRequest,
    agent: AgentRecord,
    caller: Caller,
    rules: RunRules,
    *,
    now: float,
    files: Sequence[dict[str, Any]] = (),
    task_id: str | None = None,
) -> RunSpec:
    """Judge a request and make of it what `submissions.submit` stores. `now` is in epoch seconds.

    `files` are stored attachments {id, sha256, name, media_type, size, field}. Errors: `Forbidden`
    agent_inactive; those of `run_options.check`;
    `InvalidRequest` missing_input, invalid_input, invalid_schema, schema_too_large, invalid_deadline,
    unknown_model, model_key_missing, url_refused, header_refused; `ScheduleError` for the schedules it brings.
    """
    if not agent.is_active:
        raise Forbidden(f"The agent {agent.ref.name} is not active.", code="agent_inactive", field="agent")
    manifest = agent.manifest
    check_input(request, manifest, bool(files))
    asked = options_of(request)
    knowledge = run_options.check(asked, manifest) if agent.kind == "declared" else None
    options, secrets = _split(asked, rules.policy)
    given = _input(request, options, files)
    spec = RunSpec(
        task_id=task_id or uuid7(),
        org_id=caller.org_id,
        agent=agent.ref,
        front=caller.front,
        input=given,
        input_text=JsonText(columns.dump(given)),
        title=title_of(request.text),
        end_user_id=request.end_user_id or caller.end_user_id,
        created_by=caller.actor,
        key_id=caller.key_id,
        model=rules.models.of(manifest, options) if agent.kind == "declared" else None,
        priority=request.priority,
        ttl_s=request.ttl,
        deadline_at=deadlines.of_date(request.deadline, now),
        deadline_s=None if isinstance(request.deadline, str) else request.deadline,
        secrets=rules.sealer.seal(secrets) if secrets else None,
        callback=callback_of(request, rules.sealer),
        meta=request.metadata or {},
        max_queued=rules.max_queued,
        requested=True,
        session=_session(request, caller),
        tools=_tools(request, agent, caller.org_id, rules),
        knowledge=knowledge,
        judged=caller.judged,
    )
    schedules = scheduled_run.of_request(request, spec, caller.session_scope, rules.max_schedules, now)
    return replace(spec, schedules=schedules) if schedules else spec


def _tools(request: RunRequest, agent: AgentRecord, org_id: str, rules: RunRules) -> tuple[str, ...]:
    """The registered tools of a run that neither its agent's publisher nor the setting has opened."""
    if agent.kind != "declared":
        return ()
    wanted = tool_access.wanted(agent.manifest, request.tools, agent.by_operator)
    return tuple(name for name in wanted if not rules.public_tools.allows(name, org_id))


def _session(request: RunRequest, caller: Caller) -> SessionRef | None:
    if request.session_id is None:
        return None
    strategy = Strategy(request.session_strategy) if request.session_strategy else None
    return SessionRef(request.session_id, caller.session_scope, strategy)


def check_input(request: RunRequest, manifest: Mapping[str, Any], has_files: bool) -> None:
    """Whether the request has an input, and every schema in it and for it holds; `InvalidRequest` if not."""
    has_words = bool(request.text) or has_files
    if not has_words and request.args is None:
        raise InvalidRequest(
            "Say what to do: send query (or message), args, or a file.", code="missing_input", field="query"
        )
    schema = (manifest.get("input") or {}).get("schema")
    if schema and (request.args is not None or not has_words):
        checks.check(request.args, schema, field="args")
    given = list(_schemas(request))
    checks.check_schemas(given)
    for wanted, field in given:
        outputs.check_output(wanted, field=field)
    if request.output_config and isinstance(request.output_config.output_schema, str):
        outputs.from_output_config(request.output_config.model_dump(exclude_none=True))


def is_costly(request: RunRequest, manifest: Mapping[str, Any]) -> bool:
    """Whether judging a request may take milliseconds: it brings JSON Schemas, or more than a few values for one."""
    if next(_schemas(request), None) is not None:
        return True
    wanted = (manifest.get("input") or {}).get("schema")
    return bool(wanted) and (_many(request.args) or _many(wanted))


def _many(value: Any) -> bool:
    """Whether a value has more than a few members, or long texts."""
    pending, left = [value], _FEW
    while pending and left > 0:
        item = pending.pop()
        if isinstance(item, dict):
            left -= len(item)
            pending.extend(islice(item.values(), max(0, left)))
        elif isinstance(item, list):
            left -= len(item)
            pending.extend(islice(item, max(0, left)))
        elif isinstance(item, str):
            left -= len(item) // 256
    return left <= 0


def _schemas(request: RunRequest) -> Iterator[tuple[Any, str]]:
    """The JSON Schemas of outputs that a request brings, with their fields."""
    if request.output_config and isinstance(request.output_config.output_schema, dict):
        yield request.output_config.output_schema, "output_config.output_schema"
    if request.final_output:
        yield request.final_output.schema_, "final_output.schema"
    for i, workflow in enumerate(request.workflows or ()):
        for j, step in enumerate(workflow.steps):
            if step.output_schema is not None:
                yield step.output_schema, f"workflows[{i}].steps[{j}].output_schema"


def _input(request: RunRequest, options: dict[str, Any], files: Sequence[dict[str, Any]]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if request.text is not None:
        given["message"] = request.text
    if request.args is not None:
        given["args"] = request.args
    if options:
        given["options"] = options
    if request.output_config is not None:
        given["output_config"] = request.output_config.model_dump(exclude_none=True)
    if files:
        given["files"] = list(files)
    return given


def _split(options: dict[str, Any], policy: OutboundPolicy) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the addresses in options; take the credentials out, by JSON pointer into the options."""
    servers = options.get("mcp_servers") or ()
    if not servers and options.get("callback") is None:
        return options, {}
    from runyard_common.outbound import check_headers, check_url  # with the HTTP library

    for index, server in enumerate(servers):
        check_url(server["serverUrl"], policy, field=f"mcp_servers[{index}].serverUrl")
    secrets: dict[str, Any] = {}
    if servers:
        shown, secrets = documents.split({"mcp_servers": servers})
        options |= shown
    callback = options.get("callback")
    if callback is not None:
        check_url(callback["url"], policy, field="callback.url")
        if callback.get("headers"):
            check_headers(callback["headers"], field="callback.headers")
            secrets["/callback/headers"] = callback["headers"]
            callback["headers"] = dict.fromkeys(callback["headers"], SEALED)
    return options, secrets


def callback_of(request: RunRequest, sealer: Sealer) -> CallbackTo | None:
    """Where the run calls back to. Its headers are sealed separately: they outlive the task's other credentials."""
    wanted = request.callback
    if wanted is None:
        return None
    return CallbackTo(wanted.url, sealer.seal(wanted.headers) if wanted.headers else None)


def unsealed(options: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options with their credentials put back: `secrets` is what the task's secrets unseal to."""
    return documents.put_back(options, secrets)


def title_of(text: str | None) -> str | None:
    """A title from what was asked: its first line with text, shortened."""
    line = next((line.strip() for line in (text or "").splitlines() if line.strip()), None)
    if line is None or len(line) <= _LONGEST_TITLE:
        return line
    return line[: _LONGEST_TITLE - 1].rstrip() + "…"
