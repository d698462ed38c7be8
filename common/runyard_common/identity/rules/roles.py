"""Who may do what: roles, and permissions written ``resource:action``. Pure.

What a key may do is what its role may, cut down to its scopes. A key's role never exceeds its creator's,
nor the role that the person behind it has at the moment of a call.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from runyard_common.values.errors import InvalidRequest


class Role(StrEnum):
    """A member's or a key's place in its organisation, the strongest first."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


def _each(resource: str, *actions: str) -> frozenset[str]:
    return frozenset(f"{resource}:{action}" for action in actions)


_VIEWER: Final = frozenset().union(
    _each("agents", "read"), _each("runs", "read"), _each("sessions", "read"), _each("files", "read"),
    _each("schedules", "read"), _each("webhooks", "read"), _each("limits", "read"), _each("inbox", "read"),
    _each("events", "read"), _each("usage", "read"), _each("datastores", "read"), _each("end-users", "read"),
    _each("applications", "read"),
)  # fmt: skip
_MEMBER: Final = _VIEWER.union(
    _each("agents", "run", "write"), _each("runs", "create", "cancel", "answer", "retry"),
    _each("sessions", "write", "delete"), _each("schedules", "write", "delete"), _each("inbox", "answer"),
    _each("runs", "review"), _each("datastores", "write"), _each("end-users", "write"),
    _each("events", "send"),
)  # fmt: skip
_ADMIN: Final = _MEMBER.union(
    _each("agents", "configure", "delete"), _each("runs", "delete"), _each("webhooks", "write", "delete"),
    _each("limits", "write", "delete"), _each("keys", "read", "write", "delete"), _each("ops", "read", "write"),
    _each("applications", "write", "delete"), _each("end-users", "delete"), _each("datastores", "delete"),
    _each("members", "read", "write", "delete"), _each("audit", "read"),
    _each("organisation", "read", "write", "create"), _each("secrets", "read", "write", "delete"),
)  # fmt: skip

PERMISSIONS: Final[dict[Role, frozenset[str]]] = {
    Role.OWNER: _ADMIN | _each("organisation", "delete"),
    Role.ADMIN: _ADMIN,
    Role.MEMBER: _MEMBER,
    Role.VIEWER: _VIEWER,
}
ALL: Final = frozenset().union(*PERMISSIONS.values())
#: Two names of one thing: the published contracts use the first, the native API the second.
_RUN: Final = frozenset({"agents:run", "runs:create"})
_RANK: Final = {role: rank for rank, role in enumerate(reversed(Role))}


def strongest(names: Iterable[str]) -> Role | None:
    """The strongest of these roles; unknown names count for nothing."""
    known = [Role(name) for name in names if name in PERMISSIONS]
    return max(known, key=_RANK.__getitem__) if known else None


def exceeds(role: Role, other: Role) -> bool:
    """Whether `role` is stronger than `other`."""
    return _RANK[role] > _RANK[other]


def weaker(role: Role, other: Role) -> Role:
    """The weaker of two roles."""
    return other if exceeds(role, other) else role


def granted(role: Role, scopes: Iterable[str] | None) -> frozenset[str]:
    """The permissions of a role, cut down to `scopes` when there are any (None = all the role may)."""
    whole = PERMISSIONS[role]
    if scopes is None:
        return whole
    given = set(scopes)
    if _RUN & given:
        given |= _RUN
    return frozenset(p for p in whole if p in given or f"{p.split(':')[0]}:*" in given)


def check_scopes(scopes: Iterable[str], field: str = "scopes") -> None:
    """Refuse scopes that name no permission: `InvalidRequest` unknown_scope."""
    resources = {p.split(":")[0] for p in ALL}
    for index, scope in enumerate(scopes):
        if scope not in ALL and not (scope.endswith(":*") and scope[:-2] in resources):
            raise InvalidRequest(
                f"{scope!r} is no permission; they are written resource:action, such as runs:create.",
                code="unknown_scope",
                field=f"{field}[{index}]",
            )
