"""Agent manifests: what a version of an agent is, in one strict model. Pure."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, field_validator

from runyard.declaring import NAME_RULE
from runyard_common.human_tasks.rules import on_no_answer
from runyard_common.values import ids
from runyard_common.values.errors import InvalidRequest
from runyard_common.values.models import Model

#: Characters of a version, a tag, or a range of versions.
LONGEST_VERSION: Final = 64


class Demonstration(Model):
    """An example exchange shown to the model before the conversation."""

    model_config = ConfigDict(extra="forbid")

    user_input: str
    model_output: str


class SchemaHolder(Model):
    """A holder of one JSON Schema (draft 2020-12)."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    schema_: dict[str, Any] | None = Field(None, alias="schema")


class Manifest(Model):
    """A declared or Python agent. Unknown top-level keys are refused, `config` is free.

    `timeout` is seconds per attempt; `max_concurrent` becomes a limit on the agent.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str
    version: str = Field("1.0.0", max_length=LONGEST_VERSION)
    kind: Literal["declared", "python"] = "declared"
    display_name: str | None = None
    description: str = ""
    instructions: str | None = None
    demonstrations: list[Demonstration] = Field(default_factory=list)
    model: str | None = None
    mode: Literal["flash", "fast", "base", "max"] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    tools: list[str | dict[str, Any]] = Field(default_factory=list)
    mcp_servers: list[dict[str, Any]] = Field(default_factory=list)
    review: list[str] = Field(
        default_factory=list, description="Names of tools that need a person's approval."
    )
    input: SchemaHolder | None = None
    output: SchemaHolder | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    timeout: float | None = Field(None, gt=0, le=7 * 86400)
    max_concurrent: int | None = Field(None, ge=1)
    retries: dict[str, dict[str, float]] | None = None
    isolation: Literal["loop", "thread", "process"] | None = Field(
        None,
        description="Where a Python agent's function runs; by default loop for `async def`, thread for `def`.",
    )
    memory_mb: int | None = Field(None, ge=1, description="Memory of its process, in MiB.")
    cpu_seconds: float | None = Field(None, gt=0, description="Processor time of an attempt in its process.")
    functional: bool = True
    keywords: list[str] = Field(default_factory=list)
    dependencies: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _full_name(cls, name: str) -> str:
        full = ids.qualify(name)
        if not ids.is_agent_name(full):
            raise ValueError(f"{name[:200]!r} is not an agent name; {NAME_RULE}")
        return full

    @field_validator("version")
    @classmethod
    def _semantic(cls, version: str) -> str:
        import nodesemver

        read = nodesemver.valid(version, False)
        if read is None or read.version != version.partition("+")[0]:
            raise ValueError(
                f"{version!r} is not a semantic version, like 1.2.0: no range would ever find it"
            )
        return version

    @field_validator("config")
    @classmethod
    def _asks(cls, config: dict[str, Any]) -> dict[str, Any]:
        if isinstance(ask := config.get("ask"), dict):
            try:
                on_no_answer(ask.get("on_timeout"), "default" in ask)
            except InvalidRequest as refusal:
                raise ValueError(f"ask: {refusal.message}") from None
        return config

    @property
    def input_schema(self) -> dict[str, Any] | None:
        """The JSON Schema that arguments are checked against, if there is one."""
        return self.input.schema_ if self.input else None

    def to_json(self) -> dict[str, Any]:
        """The manifest as it is stored and digested."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse(document: Any) -> Manifest:
    """A manifest from its JSON or YAML value; `InvalidRequest` invalid_manifest names the first fault."""
    from pydantic import ValidationError

    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise InvalidRequest(
            f"{where}: {first['msg'].removeprefix('Value error, ')}", code="invalid_manifest", field=where
        ) from None


def digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of the canonical manifest, in hex."""
    import orjson

    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()
