"""Every operation the server answers: a module of the native API is added here, a surface by its entry point."""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol

from runyard_api.console import routes as console
from runyard_api.http.operations import Operation, Routes
from runyard_api.native import ops, sessions, statistics, system, usage
from runyard_api.native.agents import agents, manifests
from runyard_api.native.human_tasks import answer_links, human_tasks
from runyard_api.native.identity import (
    account,
    audit,
    keys,
    members,
    organisations,
    second_factor,
    secrets,
    sign_in_link,
    sign_ins,
    sign_on,
    tenants,
)
from runyard_api.native.runs import control, events, files, journals, limits, runs, sent_events, steps, tasks
from runyard_api.native.schedules import schedules
from runyard_api.native.webhooks import deliveries, webhooks
from runyard_common import surfaces
from runyard_common.values.errors import ConfigurationError


class RouteModule(Protocol):
    """A module that declares operations."""

    @property
    def routes(self) -> Routes:
        """What it answers."""


#: In the order in which documents show them.
NATIVE: Final[tuple[RouteModule, ...]] = (
    runs,
    tasks,
    events,
    journals,
    steps,
    sent_events,
    human_tasks,
    answer_links,
    control,
    schedules,
    sessions,
    agents,
    manifests,
    limits,
    secrets,
    keys,
    account,
    sign_in_link,
    sign_ins,
    second_factor,
    sign_on,
    organisations,
    members,
    audit,
    webhooks,
    deliveries,
    files,
    usage,
    statistics,
    ops,
    tenants,
    system,
    console,
)


def operations() -> list[Operation]:
    """Every operation of the native API and of the surfaces; `ConfigurationError` if none of those is installed."""
    found = [f"{one.package}.{name}" for one in surfaces.registered().values() for name in one.routes]
    if not found:
        raise ConfigurationError(
            "No API surface is installed: install this version's package again (make setup)."
        )
    modules: list[RouteModule] = [*NATIVE, *map(import_module, found)]
    return [operation for module in modules for operation in module.routes.operations]
