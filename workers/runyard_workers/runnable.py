"""Whose runs a worker claims: those of its own agents, and of versions that it carries on while no worker has them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy import Connection

from runyard_common.runs.queries import workers

logger = structlog.get_logger("runyard.engine")


class Runnable:
    """The Python agents (name@version) of one worker."""

    def __init__(self, agents: Sequence[str] | None, resumes: Sequence[str], dedicated: bool = False) -> None:
        """`agents` are its own; None: all. `resumes`: see `workers.enlist`. `dedicated`: it runs nothing else."""
        self.dedicated = dedicated
        self.own = None if agents is None else tuple(agents)
        self.resumes = tuple(resumes)
        self.carried_on: tuple[str, ...] = ()  # as the last look has it
        self.is_lacked = False  # whether another live worker cannot run one of these

    def look(self, conn: Connection, now: float) -> bool:
        """See what the live workers have; whether there are more versions now whose code none has. `now` is in epoch
        seconds."""
        if not (self.own or self.resumes):
            return False
        fleet = workers.fleet(conn, now)
        before, self.carried_on = self.carried_on, tuple(a for a in self.resumes if not fleet.has_code(a))
        self.is_lacked = fleet.lacks((*(self.own or ()), *self.carried_on))
        more = sorted(set(self.carried_on) - set(before))
        if more:
            logger.info("No worker has these versions: their runs go on here", action="rebind", agents=more)
        return bool(more)
