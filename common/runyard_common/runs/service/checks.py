"""The limits that queued tasks count against, looked up for many of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import limits, tasks
from runyard_common.runs.rules.admission import (
    AdmissionContext,
    Kind,
    LimitCheck,
    Rule,
    Strategy,
    check_of,
    limit_checks,
    map_of,
)
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.tasks import Task
from runyard_common.sessions.queries import sessions


class Checks:
    """Checks by the rules of one moment. An organisation's rules are read once."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._rules: dict[str, list[Rule]] = {}

    def know(self, org_ids: Iterable[str]) -> None:
        """Read the rules of these organisations, and the operator's, in one statement."""
        new = {*org_ids, "*"} - self._rules.keys()
        if not new:
            return
        found = limits.rules(self._tx.conn, new)
        for org_id in new:
            self._rules[org_id] = [rule for rule in found if rule.org_id == org_id]

    def of_limit(self, by: BlockedBy) -> LimitCheck:
        """The check of one limit, whose organisation is known."""
        return check_of(self._rules[by.what.partition("|")[0]], by.what)

    def of_tasks(self, asked: Sequence[Task]) -> dict[str, list[LimitCheck]]:
        """What each of these tasks counts against."""
        self.know({task.org_id for task in asked})
        binding = {task.org_id: self._rules["*"] + self._rules[task.org_id] for task in asked}
        strategies = sessions.strategies(self._tx.conn, {t.session_id for t in asked if t.session_id})
        args = self._arguments(asked, binding)
        return {t.id: limit_checks(binding[t.org_id], _context(t, strategies, args.get(t.id))) for t in asked}

    def _arguments(self, asked: Sequence[Task], binding: dict[str, list[Rule]]) -> dict[str, Any]:
        """The arguments of the runs that a limit by key looks into; inputs can be large, and few limits do."""
        keyed = {org_id for org_id, rules in binding.items() if any(r.kind is Kind.KEY for r in rules)}
        looked_into = [task.id for task in asked if task.org_id in keyed]
        found = tasks.inputs(self._tx.conn, looked_into) if looked_into else {}
        return {task_id: (text.value or {}).get("args") for task_id, text in found.items()}


def _context(task: Task, strategies: dict[str, Strategy], args: Any) -> AdmissionContext:
    return AdmissionContext(
        task.org_id,
        task.agent_name,
        task.end_user_id,
        task.session_id,
        strategies.get(task.session_id or "", Strategy.ENQUEUE),
        task.model,
        args,
        map_of(task.limit_keys),
    )
