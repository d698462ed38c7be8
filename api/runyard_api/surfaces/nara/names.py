"""The names by which agents are listed: short ones, each of which finds its agent again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runyard_common.values.ids import qualify

#: Agents of this scope do the server's own work.
BUILT_IN = "@runyard/"


def short_names(agents: Iterable[Mapping[str, Any]], org_id: str) -> dict[str, str]:
    """Each agent's id with the shortest name that means it: its normalised name, or ``@scope/name``.

    `agents` are all that the organisation may run. A normalised name means the agent of that name in
    ``@default``, else the organisation's own, else the oldest: as `agents.service.agents` looks it up.
    """
    known = list(agents)
    full = {(a["name"], a["org_id"] == org_id): a["id"] for a in known}
    slugs: dict[str, str] = {}
    for agent in sorted(known, key=lambda a: (a["org_id"] != org_id, a["id"])):
        slugs.setdefault(agent["slug"], agent["id"])
    found = {}
    for agent in known:
        slug, name = agent["slug"], qualify(agent["slug"])
        meant = full.get((name, True)) or full.get((name, False)) or slugs[slug]
        found[agent["id"]] = slug if meant == agent["id"] else agent["name"]
    return found
