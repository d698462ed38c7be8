"""A run as a caller asks for it: every field of the native API, strictly typed. Pure.

The fields that steer the agent become the run's options.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from runyard_common.values import bounds
from runyard_common.values.models import Model

Name = Annotated[str, Field(min_length=1, max_length=200)]
Prose = Annotated[str, Field(max_length=bounds.PROSE.most)]
Scalar = str | int | float

MOST_METADATA_BYTES: Final = bounds.METADATA.most
LONGEST_WAIT: Final = 30 * 86_400.0
#: USD.
MOST_BUDGET: Final = 1_000_000.0


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(value)) > MOST_METADATA_BYTES:
        raise ValueError(f"has more than {MOST_METADATA_BYTES:,} bytes")
    return value


Metadata = Annotated[dict[str, Any], AfterValidator(_small)]


class Strict(Model):
    """A model that refuses unknown fields and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=False)


class OutputConfig(Strict):
    """How the output should look."""

    output_schema: str | dict[str, Any] | None = Field(
        None,
        description="The wanted shape: a JSON Schema, as an object or as text, or prose that describes it.",
    )
    instructions: Prose | None = Field(None, description="Further guidance for the output.")


class Callback(Strict):
    """Where what happens to the run is posted."""

    url: str = Field(max_length=2048)
    headers: dict[str, str] = Field(default_factory=dict, description="Sent with each call; kept encrypted.")


class BearerAuth(Strict):
    """A bearer token for an MCP server; kept encrypted."""

    type: Literal["bearer"]
    token: str = Field(min_length=1, max_length=8192)


class NoAuth(Strict):
    """The MCP server wants no credentials."""

    type: Literal["none"]


class OAuthToken(Strict):
    """An OAuth access token."""

    access_token: str = Field(alias="accessToken", min_length=1, max_length=8192)


class OAuth(Strict):
    """OAuth credentials for an MCP server; kept encrypted."""

    type: Literal["oauth"]
    oauth: OAuthToken


class McpServer(Strict):
    """An MCP server whose tools the agent may use in this run."""

    server_name: Name = Field(alias="serverName")
    server_url: str = Field(alias="serverUrl", max_length=2048)
    auth: Annotated[BearerAuth | OAuth | NoAuth, Field(discriminator="type")] | None = None


class RetryPolicy(Strict):
    """How often a workflow step is tried."""

    max_attempts: int = Field(ge=1, le=100)
    backoff: Literal["exponential", "linear"] = "exponential"


class WorkflowStep(Strict):
    """One step of a workflow; it starts when the steps it depends on have ended."""

    id: Name
    name: str
    description: Prose
    depends_on: list[str]
    optional: bool = False
    retry_policy: RetryPolicy | None = None
    output_schema: dict[str, Any] | None = None


class Workflow(Strict):
    """Steps with dependencies, run by the engine: a directed graph without cycles."""

    id: Name
    name: str
    description: Prose
    steps: list[WorkflowStep] = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _is_a_graph(self) -> Workflow:
        ids = [step.id for step in self.steps]
        if len(set(ids)) != len(ids):
            raise ValueError("two steps have the same id")
        for step in self.steps:
            for needed in step.depends_on:
                if needed not in ids:
                    raise ValueError(
                        f"step {step.id!r} depends on {needed!r}, which is no step of this workflow"
                    )
        try:
            TopologicalSorter({step.id: step.depends_on for step in self.steps}).prepare()
        except CycleError as error:
            raise ValueError(
                f"the steps depend on each other in a circle: {' → '.join(error.args[1])}"
            ) from None
        return self


class Specialist(Strict):
    """An agent the conversation may be handed to: a registered one by name, or one described here."""

    name: Name
    description: Prose


class DatastoreRef(Strict):
    """A datastore the agent may use."""

    id: Name
    name: str


class NamedQuery(Strict):
    """A named SQL statement the agent may run on a database datastore; ``?`` is a parameter."""

    name: Name
    description: Prose
    query: Prose
    datastore: Name | None = Field(
        None, description="Id or name of the datastore it runs on; without it, the model may choose."
    )
    parameters: list[Name] | None = Field(
        None, max_length=100, description="Names of the values of its `?`, in order."
    )


class ScheduledMessage(Strict):
    """Run again later: a delay in seconds, a date, or a cron line."""

    schedule: Scalar
    message: Prose
    catch_up: Literal["none", "last", "all"] | None = Field(
        None,
        description="Of times that were missed; by default last. Given, it also permits a date that has passed.",
    )


class FinalOutput(Strict):
    """A structured result, made in the end over the whole conversation."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class RunRequest(Strict):
    """The JSON body of a run. At least one of `query`, `message`, `args` or a file is needed."""

    query: str | None = Field(None, description="What to do, in words.")
    message: str | None = Field(None, description="The same, under its other name.")
    args: Any = Field(None, description="Arguments, checked against the agent's input schema.")
    session_id: Annotated[str, Field(min_length=1, max_length=bounds.SESSION_NAME.most)] | None = Field(
        None, description="Continue this conversation: its id, or any name of your own."
    )
    session_strategy: Literal["enqueue", "reject", "interrupt"] | None = Field(
        None, description="What becomes of this run while another of its session is under way."
    )
    end_user_id: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="Your end user, for limits per end user."
    )
    version: Annotated[str, Field(min_length=1, max_length=bounds.VERSION.most)] | None = Field(
        None, description="An exact version, a tag, or a semver range."
    )
    output_config: OutputConfig | None = None
    callback: Callback | None = None
    background: bool | None = Field(
        None, description="Accepted for compatibility: every run is in the background."
    )
    priority: int = Field(0, ge=-1000, le=1000, description="Lower runs first, within your organisation.")
    deadline: str | float | None = Field(
        None, description="When the run must have ended: an RFC 3339 date-time, or seconds from now."
    )
    ttl: float | None = Field(
        None, gt=0, le=LONGEST_WAIT, description="Fail the run unless it starts within so many seconds."
    )
    metadata: Metadata | None = Field(None, description="Yours to use; returned with the run.")
    schedules: list[ScheduledMessage] | None = Field(None, max_length=bounds.RUN_SCHEDULES.most)

    system: Prose | None = Field(None, description="A system prompt in place of the agent's own.")
    mode: Literal["flash", "fast", "base", "max"] | None = None
    model: Name | None = Field(None, description="The model of this run, `provider:name`, before any other.")
    tools: list[Name] | None = Field(
        None,
        max_length=200,
        description="The agent's tools in this run, by name, in place of all its own: some of its own, tools "
        "registered with the workers, `ask_user`, or agents by @scope/name. What the request itself brings "
        "(mcp_servers, datastores) stays.",
    )
    budget: float | None = Field(
        None,
        gt=0,
        le=MOST_BUDGET,
        allow_inf_nan=False,
        description="USD the run may spend. Once it is spent, the run waits in `awaiting_review` for a top-up.",
    )
    rules: list[Prose] | None = Field(None, max_length=200)
    agents: list[Specialist] | None = Field(None, max_length=100)
    workflows: list[Workflow] | None = Field(None, max_length=20)
    mcp_servers: list[McpServer] | None = Field(None, max_length=50)
    datastores: list[DatastoreRef] | None = Field(None, max_length=50)
    queries: list[NamedQuery] | None = Field(None, max_length=100)
    streaming_tokens: bool | None = None
    final_output: FinalOutput | None = None

    @field_validator("ttl", "deadline")
    @classmethod
    def _finite(cls, value: str | float | None) -> str | float | None:
        if isinstance(value, float) and not 0 < value <= LONGEST_WAIT:
            raise ValueError("must be more than 0 and at most 30 days of seconds")
        return value

    @property
    def text(self) -> str | None:
        """The request in words, from either field."""
        return self.message if self.message is not None else self.query


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The datastores and queries of a run, each with the field that names it."""

    datastores: tuple[tuple[str, str], ...] = ()  # field, id or name
    queries: tuple[tuple[str, str, str | None], ...] = ()  # field, name, and the datastore it asks for


#: The fields that steer the agent; they are stored as the run's options.
OPTIONS: Final = (
    "system", "mode", "model", "tools", "budget", "rules", "agents", "workflows", "mcp_servers", "datastores",
    "queries", "streaming_tokens", "final_output", "callback", "background",
)  # fmt: skip
_OPTION_SET: Final = frozenset(OPTIONS)


def options_of(request: RunRequest) -> dict[str, Any]:
    """The options the caller set, as JSON under their wire names."""
    named = request.model_fields_set & _OPTION_SET
    if not named:
        return {}
    return request.model_dump(mode="json", by_alias=True, include=set(named), exclude_none=True)
