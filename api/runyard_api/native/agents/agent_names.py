"""What may stand for an agent in a native path, and how what stands for none is refused."""

from __future__ import annotations

from runyard_common.values import ids
from runyard_common.values.errors import InvalidRequest, NotFound, RunyardError


def refused(missing: NotFound, named: str) -> RunyardError:
    """The refusal of a path that names no agent: text that cannot be an agent's id or name is a bad request
    (nanonets §3: a bad UUID is 400), and what could be one but is none is not found."""
    could_be = ids.is_uuid(named) or ids.is_agent_name(named) or ids.normalise(named) == named
    if missing.code != "agent_not_found" or could_be:
        return missing
    return InvalidRequest(
        "An agent is named by its UUID, as @scope/name, or by its name in lower case with underscores.",
        code="invalid_id",
        field="agent",
    )
