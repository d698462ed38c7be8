"""Workflows: declared steps that depend on each other, validated as an acyclic graph. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from runyard_common.schemas import outputs
from runyard_common.values.errors import InvalidRequest
from runyard_common.values.models import Model

Backoff = Literal["exponential", "linear"]
#: The longest pause between two tries of a step, in seconds.
LONGEST_BACKOFF: Final = 60.0
MOST_STEPS: Final = 200


class _RetryPolicy(Model):
    model_config = ConfigDict(extra="ignore")

    max_attempts: int = Field(1, ge=1, le=100)
    backoff: Backoff = "exponential"


class _Step(Model):
    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, max_length=200)
    name: str = ""
    description: str = ""
    depends_on: list[str] = Field(default_factory=list)
    optional: bool = False
    retry_policy: _RetryPolicy = Field(default_factory=_RetryPolicy)
    output_schema: dict[str, Any] | None = None


class _Workflow(Model):
    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, max_length=200)
    name: str = ""
    description: str = ""
    steps: list[_Step] = Field(min_length=1, max_length=MOST_STEPS)


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `max_attempts` counts the first try; an `optional` one that fails is skipped."""

    id: str
    name: str
    description: str
    depends_on: tuple[str, ...] = ()
    optional: bool = False
    max_attempts: int = 1
    backoff: Backoff = "exponential"
    output_schema: dict[str, Any] | None = field(default=None, hash=False)

    def delay(self, failures: int) -> float:
        """Seconds to wait after the step has failed `failures` times: 1, 2, 4, … or 1, 2, 3, …"""
        seconds = 2.0 ** (failures - 1) if self.backoff == "exponential" else float(failures)
        return min(seconds, LONGEST_BACKOFF)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph of steps."""

    id: str
    name: str
    description: str
    steps: tuple[Step, ...]

    def ready(self, ended: Collection[str], begun: Collection[str]) -> list[Step]:
        """The steps whose dependencies have all ended and which have not begun."""
        return [s for s in self.steps if s.id not in begun and all(d in ended for d in s.depends_on)]


def parse(given: Any, *, field: str = "workflows") -> tuple[Workflow, ...]:
    """The workflows of a request; `InvalidRequest` invalid_workflow names the first fault and where it is."""
    if given is None:
        return ()
    if not isinstance(given, list):
        raise _invalid("workflows is a list.", field)
    workflows = tuple(_workflow(one, f"{field}[{index}]") for index, one in enumerate(given))
    _refuse_duplicates((w.id for w in workflows), field, "workflow")
    return workflows


def _workflow(given: Any, where: str) -> Workflow:
    try:
        model = _Workflow.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise _invalid(f"{first['msg'].removeprefix('Value error, ')}.", where + path) from None
    steps = tuple(_step(one, f"{where}.steps[{index}]") for index, one in enumerate(model.steps))
    _check_graph(steps, where)
    return Workflow(model.id, model.name or model.id, model.description, steps)


def _step(model: _Step, where: str) -> Step:
    if model.output_schema is not None:
        outputs.check_output(model.output_schema, field=f"{where}.output_schema")
    return Step(
        model.id,
        model.name or model.id,
        model.description or model.name or model.id,
        tuple(dict.fromkeys(model.depends_on)),
        model.optional,
        model.retry_policy.max_attempts,
        model.retry_policy.backoff,
        model.output_schema,
    )


def _check_graph(steps: tuple[Step, ...], where: str) -> None:
    _refuse_duplicates((step.id for step in steps), f"{where}.steps", "step")
    known = {step.id for step in steps}
    for index, step in enumerate(steps):
        for position, name in enumerate(step.depends_on):
            if name not in known:
                raise _invalid(
                    f"Step {step.id!r} depends on {name!r}, which is no step of this workflow.",
                    f"{where}.steps[{index}].depends_on[{position}]",
                )
    try:
        TopologicalSorter({step.id: step.depends_on for step in steps}).prepare()
    except CycleError as error:
        circle = " → ".join(str(name) for name in error.args[1])
        raise _invalid(f"The steps depend on each other in a circle: {circle}.", f"{where}.steps") from None


def _refuse_duplicates(names: Iterable[str], where: str, noun: str) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise _invalid(f"The {noun} id {name!r} is used twice.", f"{where}[{index}].id")
        seen.add(name)


def _invalid(message: str, where: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_workflow", field=where)
