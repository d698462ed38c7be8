"""What agentbase's clients send, and the run request it means.

Unknown fields are tolerated at any depth, and so are empty objects: the reference's sample call sends them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from runyard_api.http.request_body import Tolerant
from runyard_common.runs.rules import run_request as native
from runyard_common.runs.rules.run_request import Prose, RunRequest
from runyard_common.values.models import Model

T = TypeVar("T")
#: How the reference writes a mode that is yet to be filled in.
_NO_MODE: Final = ("<string>", "")


def _without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [item for item in value if item != {}] or None
    return None if value == {} else value


def _without_placeholder(mode: Any) -> Any:
    return None if mode in _NO_MODE else mode


class _EmptyToo:
    """Documents that an empty object may stand for nothing."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        made = handler(schema)
        empty = {"type": "object", "maxProperties": 0}
        for choice in made.get("anyOf", ()):
            if choice.get("type") == "array":
                choice["items"] = {"anyOf": [choice["items"], empty]}
                return made
        return {"anyOf": [*made.get("anyOf", [made]), empty]}


Many = Annotated[list[T] | None, BeforeValidator(_without_empty), _EmptyToo()]
One = Annotated[T | None, BeforeValidator(_without_empty), _EmptyToo()]


class _Open(Model):
    model_config = ConfigDict(extra="ignore", strict=True)


class AgentbaseCallback(native.Callback, _Open):
    """Where events are posted."""

    headers: Annotated[dict[str, str], BeforeValidator(lambda given: {} if given is None else given)] = Field(
        default_factory=dict
    )


class AgentbaseBearerAuth(native.BearerAuth, _Open):
    """A bearer token for an MCP server."""


class AgentbaseOAuthToken(native.OAuthToken, _Open):
    """An OAuth access token."""


class AgentbaseOAuth(native.OAuth, _Open):
    """OAuth credentials for an MCP server."""

    oauth: AgentbaseOAuthToken


class AgentbaseNoAuth(native.NoAuth, _Open):
    """The MCP server wants no credentials."""


class AgentbaseMcpServer(native.McpServer, _Open):
    """An MCP server whose tools the agent may use."""

    auth: One[
        Annotated[AgentbaseBearerAuth | AgentbaseOAuth | AgentbaseNoAuth, Field(discriminator="type")]
    ] = None


class AgentbaseRetryPolicy(native.RetryPolicy, _Open):
    """How often a workflow step is tried."""


class AgentbaseStep(native.WorkflowStep, _Open):
    """One step of a workflow."""

    retry_policy: One[AgentbaseRetryPolicy] = None


class AgentbaseWorkflow(native.Workflow, _Open):
    """Steps with dependencies."""

    steps: list[AgentbaseStep] = Field(min_length=1, max_length=200)  # type: ignore[assignment]


class AgentbaseSpecialist(native.Specialist, _Open):
    """An agent the conversation may be handed to."""


class AgentbaseDatastoreRef(native.DatastoreRef, _Open):
    """A datastore the agent may use."""


class AgentbaseQuery(native.NamedQuery, _Open):
    """A named SQL statement the agent may run."""


class AgentbaseScheduledMessage(native.ScheduledMessage, _Open):
    """Run again later: seconds from now, a date (one that has passed runs at once), or a cron line."""


class AgentbaseFinalOutput(native.FinalOutput, _Open):
    """A structured result of the whole thread."""


class AgentbaseRunBody(_Open):
    """A message to an agent, and all that is to steer it. Unknown fields are tolerated."""

    message: str = Field(min_length=1, description="The task or message.")
    system: Prose | None = Field(None, description="A system prompt.")
    mode: Annotated[Literal["flash", "fast", "base", "max"] | None, BeforeValidator(_without_placeholder)] = (
        Field(None, description="flash, fast (also called base; the default) or max.")
    )
    rules: Annotated[list[Prose], Field(max_length=200)] | None = None
    agents: Many[AgentbaseSpecialist] = Field(None, max_length=100)
    workflows: Many[AgentbaseWorkflow] = Field(None, max_length=20)
    mcp_servers: Many[AgentbaseMcpServer] = Field(None, max_length=50)
    datastores: Many[AgentbaseDatastoreRef] = Field(None, max_length=50)
    queries: Many[AgentbaseQuery] = Field(None, max_length=100)
    background: bool | None = Field(None, description="Answer at once; events go to the callback.")
    callback: One[AgentbaseCallback] = Field(None, description="Where events are posted.")
    streaming_tokens: bool | None = Field(None, description="Send messages piece by piece.")
    schedules: Many[AgentbaseScheduledMessage] = Field(None, max_length=50)
    final_output: One[AgentbaseFinalOutput] = None

    def request(self, session_id: str | None) -> RunRequest:
        """The run this asks for, in a conversation or in none yet."""
        given = self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
        for one in given.get("schedules", ()):
            one.setdefault("catch_up", "last")  # the reference's own sample has a date that has passed
        return RunRequest.model_validate(given | ({"session_id": session_id} if session_id else {}))


class AgentbaseParameters(Tolerant):
    """Which conversation, and which agent. Unknown parameters are tolerated."""

    session: str | None = Field(
        None, max_length=255, description="The conversation to continue; without it a new one begins."
    )
    agent: str | None = Field(
        None,
        max_length=200,
        description="An agent of yours (its id, @scope/name or name) in place of the default one.",
    )


class AgentbaseScheduled(Model):
    """A schedule that the call has made; its id cancels it."""

    id: str
    kind: str
    next_at: str | None


class AgentbaseAccepted(Model):
    """The answer to a background call."""

    model_config = ConfigDict(extra="allow")

    taskId: str  # noqa: N815
    status: Literal["queued"]
    session: str | None
    schedules: list[AgentbaseScheduled]
