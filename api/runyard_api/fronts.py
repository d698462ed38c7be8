"""Every operation the server answers: add a module here, and it is routed, guarded and documented."""

from __future__ import annotations

from typing import Final, Protocol

from runyard_api.console import routes as console
from runyard_api.http.operations import Operation, Routes
from runyard_api.native import ops, sessions, system, usage
from runyard_api.native.agents import agents, manifests
from runyard_api.native.human_tasks import answer_links, human_tasks
from runyard_api.native.identity import (
    account,
    audit,
    keys,
    members,
    organisations,
    second_factor,
    sign_in_link,
    sign_ins,
    sign_on,
    tenants,
)
from runyard_api.native.runs import control, events, files, limits, runs, tasks
from runyard_api.native.schedules import schedules
from runyard_api.native.webhooks import deliveries, webhooks
from runyard_api.surfaces.agentbase import datastores as agentbase_datastores
from runyard_api.surfaces.agentbase import runs as agentbase_runs
from runyard_api.surfaces.agentbase import sessions as agentbase_sessions
from runyard_api.surfaces.agentbase import status as agentbase_status
from runyard_api.surfaces.appstrate import apps as appstrate_apps
from runyard_api.surfaces.appstrate import end_users as appstrate_end_users
from runyard_api.surfaces.appstrate import keys as appstrate_keys
from runyard_api.surfaces.appstrate import packages as appstrate_packages
from runyard_api.surfaces.appstrate import realtime as appstrate_realtime
from runyard_api.surfaces.appstrate import run as appstrate_run
from runyard_api.surfaces.appstrate import runs as appstrate_runs
from runyard_api.surfaces.appstrate import schedules as appstrate_schedules
from runyard_api.surfaces.appstrate import system as appstrate_system
from runyard_api.surfaces.appstrate import versions as appstrate_versions
from runyard_api.surfaces.appstrate import webhooks as appstrate_webhooks
from runyard_api.surfaces.nara import routes as nara
from runyard_api.surfaces.nugen import agents as nugen_agents
from runyard_api.surfaces.nugen import runs as nugen_runs


class RouteModule(Protocol):
    """A module that declares operations."""

    @property
    def routes(self) -> Routes:
        """What it answers."""


#: In the order in which documents show them.
MODULES: Final[tuple[RouteModule, ...]] = (
    runs,
    tasks,
    events,
    human_tasks,
    answer_links,
    control,
    schedules,
    sessions,
    agents,
    manifests,
    limits,
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
    ops,
    tenants,
    system,
    console,
    nara,
    nugen_runs,
    nugen_agents,
    agentbase_runs,
    agentbase_sessions,
    agentbase_datastores,
    agentbase_status,
    appstrate_run,
    appstrate_runs,
    appstrate_realtime,
    appstrate_schedules,
    appstrate_webhooks,
    appstrate_end_users,
    appstrate_apps,
    appstrate_keys,
    appstrate_packages,
    appstrate_versions,
    appstrate_system,
)


def operations() -> list[Operation]:
    """Every operation of every front."""
    return [operation for module in MODULES for operation in module.routes.operations]
