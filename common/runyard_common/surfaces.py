"""API surfaces: what every process needs to know of a wire contract, registered by name.

An adapter is a folder with a `surface` module, whose `ApiSurface` an entry point of the group `runyard.surfaces`
names; the api imports its routes, other processes import that one module. See docs/decisions/0026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.values.errors import ConfigurationError
from runyard_common.webhooks.rules import delivery, payloads, webhook_events
from runyard_common.webhooks.rules.delivery import RetrySchedule
from runyard_common.webhooks.rules.payloads import WebhookEvent

GROUP: Final = "runyard.surfaces"


@dataclass(frozen=True, slots=True)
class WebhookStyle:
    """What the webhooks of a contract look like, and when they are tried again.

    `type_of` names a change of state (None: it is not reported), `render` makes the body of one of a task in a
    mode (full or summary), `ping` that of a test: of an event id, a type, an endpoint's id and a time.
    """

    events: tuple[str, ...]
    type_of: Callable[[Event, Status, int, Mapping[str, Any] | None], str | None]
    render: Callable[[Task, WebhookEvent, str], str]
    ping: Callable[[str, str, str, float], dict[str, Any]]
    retries: RetrySchedule


@dataclass(frozen=True, slots=True)
class ApiSurface:
    """A wire contract. `routes` are the modules of `package` that declare its operations, for the api alone."""

    name: str
    package: str = ""
    routes: tuple[str, ...] = ()
    order: int = 100  # among the others, in documents and where paths of two would match
    webhooks: WebhookStyle | None = None
    statuses: Mapping[str, str] = field(
        default_factory=dict
    )  # its words for a task's status, where they differ
    requests_per_minute: int = 0  # of an organisation, where the contract has such a rate
    lenient_output: bool = False  # an output that breaks its schema is logged, and the run succeeds
    #: Refuses an agent (its kind and manifest) when one of its schedules is due, as the contract refuses its runs.
    check_due: Callable[[str, Mapping[str, Any]], None] | None = None


NATIVE_WEBHOOKS: Final = WebhookStyle(
    webhook_events.NATIVE, webhook_events.type_of, payloads.native, payloads.ping, delivery.NATIVE
)
NATIVE: Final = ApiSurface("native", order=0, webhooks=NATIVE_WEBHOOKS)


@cache
def registered() -> Mapping[str, ApiSurface]:
    """Every surface by its name, in their order."""
    found = [NATIVE, *(point.load() for point in entry_points(group=GROUP))]
    return {one.name: one for one in sorted(found, key=lambda one: (one.order, one.name))}


def of(front: str) -> ApiSurface:
    """The surface a task came by; the native one for those the server made itself."""
    return registered().get(front, NATIVE)


def rates(given: Mapping[str, int]) -> dict[str, int]:
    """Requests a minute of each surface that has a rate, with what the operator set; 0 is no limit.

    Raises `ConfigurationError` for a name that is none of theirs.
    """
    own = {name: one.requests_per_minute for name, one in registered().items() if one.requests_per_minute}
    if unknown := sorted(given.keys() - own.keys()):
        raise ConfigurationError(
            f"RUNYARD_SURFACE_REQUESTS_PER_MINUTE: {unknown[0]!r} has no rate; those with one: {', '.join(own)}.",
            field="RUNYARD_SURFACE_REQUESTS_PER_MINUTE",
        )
    return own | dict(given)


def webhook_styles() -> dict[str, WebhookStyle]:
    """The styles that endpoints may have."""
    return {name: one.webhooks for name, one in registered().items() if one.webhooks is not None}


def webhooks(style: str) -> WebhookStyle | None:
    """A style; None for that of a surface which is no longer installed."""
    found = registered().get(style)
    return None if found is None else found.webhooks
