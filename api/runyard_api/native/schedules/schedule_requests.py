"""What callers send about schedules: when they are due, how the times are treated, and the run they make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from runyard_api.native.front import DATE_TIME, instant_of, moment
from runyard_common.runs.rules.run_request import Metadata, Name, RunRequest, Scalar, Strict
from runyard_common.schedules.rules.backfill import MAX_BACKFILL
from runyard_common.schedules.rules.new_schedule import Wanted
from runyard_common.schedules.rules.preview import MAX_PREVIEW
from runyard_common.schedules.service.backfills import Asked
from runyard_common.values.errors import InvalidRequest, RunyardError

#: Fields of a run that its agent may have set, where the request has not.
_OF_AGENTS: Final = ("model", "tools")
Count = Annotated[int, Field(le=2**31 - 1)]


class Timing(Strict):
    """When, and how the times are treated."""

    timezone: str = Field(
        "UTC", max_length=64, description="An IANA zone: cron and plain dates are read on its clocks."
    )
    overlap: Literal["skip", "queue", "allow", "stop_running"] | None = Field(
        None, description="While an earlier run has not ended; by default skip, with catch_up all allow."
    )
    catch_up: Literal["none", "last", "all"] | None = Field(
        None,
        description="Of times that were missed; by default last. Given, it also permits a date that has passed.",
    )
    catch_up_window_s: float | None = Field(None, description="How old a missed time may be, in seconds.")
    jitter_s: float = Field(0.0, description="Release each run up to so many seconds later, steadily.")
    end_at: str | float | None = Field(
        None, description="The last moment it may be due (ISO 8601 or epoch seconds)."
    )
    max_fires: Count | None = Field(None, description="How often it runs.")
    pause_after_failures: Count | None = Field(None, description="Pause after so many failed runs in a row.")


_NEVER_NULL: Final = ("schedule", "timezone", "jitter_s", "overlap", "catch_up")
When = Annotated[
    Scalar,
    Field(
        description="Seconds from now, an ISO 8601 date or date-time, or a cron line of five fields.",
        examples=["0 9 * * mon-fri"],
    ),
]


class ScheduleBody(Timing):
    """A schedule, and the run it makes."""

    agent: Name = Field(
        description="An agent's id, @scope/name or normalised name; a version's id pins that version."
    )
    schedule: When
    run: RunRequest = Field(description="The run request, as for POST /agents/{agent}/run.")
    name: Name | None = None
    enabled: bool = Field(True, description="False makes it paused.")
    metadata: Metadata | None = Field(None, description="Yours to use.")

    @property
    def wanted(self) -> Wanted:
        given = self.model_dump(exclude={"agent", "run", "metadata"})
        return Wanted(**given, meta=self.metadata)


def _stay(schema: dict[str, Any]) -> None:
    """Documents that these fields are left out, not null, to stay as they are."""
    for name in _NEVER_NULL:
        shown = schema["properties"][name]
        if "anyOf" in shown:
            shown["anyOf"] = [choice for choice in shown["anyOf"] if choice != {"type": "null"}]
            shown.pop("default", None)


class ScheduleChange(Timing):
    """What to change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=_stay)

    schedule: When | None = None
    run: RunRequest | None = None
    name: Name | None = None
    metadata: Metadata | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that were given, under the service's names."""
        given = self.model_dump(include=self.model_fields_set - {"run"})
        if "metadata" in given:
            given["meta"] = given.pop("metadata")
        for name in _NEVER_NULL:
            if name in given and given[name] is None:
                raise InvalidRequest(
                    f"{name} cannot be null; leave it out.", code="invalid_field", field=name
                )
        return given


class PreviewBody(Strict):
    """A schedule that need not exist."""

    schedule: When
    timezone: str = Field("UTC", max_length=64)
    end_at: str | float | None = None
    max_fires: Count | None = None
    count: int = Field(10, description=f"How many times, at most {MAX_PREVIEW}.")

    @property
    def wanted(self) -> Wanted:
        return Wanted(**self.model_dump(exclude={"count"}))


class PauseBody(Strict):
    """Why it rests."""

    reason: str | None = Field(None, max_length=500)


class BackfillBody(Strict):
    """Which of the times that have passed are made up for."""

    since: str = Field(
        max_length=64, description="The first of them (RFC 3339), also before the schedule was made.",
        json_schema_extra=DATE_TIME,
    )  # fmt: skip
    until: str | None = moment("The last of them (RFC 3339); by default now.")
    limit: int = Field(MAX_BACKFILL, ge=1, le=MAX_BACKFILL, description="How many runs at most.")
    dry_run: bool = Field(False, description="Only show the times.")

    @property
    def asked(self) -> Asked:
        until = None if self.until is None else instant_of(self.until, "until")
        return Asked(instant_of(self.since, "since"), until, self.limit, self.dry_run)


@contextmanager
def named_by_caller(run: RunRequest | None) -> Iterator[None]:
    """Refusals of the block name a field of the run as the caller has it: below `run`."""
    try:
        yield
    except RunyardError as error:
        if run is not None:
            error.field = _own_name(error.field, run)
            listed = error.details.get("errors") or ()
            for one in listed:
                one["field"] = _own_name(one["field"], run)
        raise


def _own_name(field: str | None, run: RunRequest) -> str | None:
    first = re.split(r"[.\[]", field or "", maxsplit=1)[0]
    if first not in RunRequest.model_fields:
        return field
    return "agent" if first in _OF_AGENTS and first not in run.model_fields_set else f"run.{field}"
