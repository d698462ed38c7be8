"""Members: who has which role in an organisation, and how people come in and leave.

No member gives a role above their own, changes or removes a member above them, or leaves an organisation of
people without an owner. Accounts are made by accepting an invitation alone, so that every person chooses their own
password. An invitation gives its place only to who accepts it: an account of the address that another person holds
does not get it unasked.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity, members
from runyard_common.identity.queries.members import InvitationRow, MemberRow, PersonRow, PresentedInvitation
from runyard_common.identity.rules.roles import PERMISSIONS, Role, exceeds
from runyard_common.identity.service import caps
from runyard_common.identity.service.identity import hash_of
from runyard_common.values.errors import Conflict, Forbidden, NotFound
from runyard_common.values.ids import uuid7

#: How long an invitation waits, in seconds.
LIFETIME: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class By:
    """Who changes members: its name for the audit log, and how much it may give.

    `permissions` are those of a key that is cut down to scopes; None: all of the role's.
    """

    actor: str
    role: Role
    permissions: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation just made: the only time its token is known."""

    token: str
    row: InvitationRow


def invite(tx: Tx, org_id: str, email: str, role: Role, by: By) -> Invited:
    """Let the holder of the token join with this role; an earlier invitation to the address is void.

    Errors: `Forbidden` role_exceeds_own, `Conflict` already_member.
    """
    _may_give(role, by)
    identity.lock_organisation(tx, org_id)
    _not_yet(tx, org_id, email)
    members.forget_invitations(tx, org_id, email)
    caps.check(tx, org_id, "invitations")
    token = "inv_" + secrets.token_urlsafe(32)
    row = InvitationRow(
        id=uuid7(),
        org_id=org_id,
        email=email,
        role=role.value,
        token_hash=hash_of(token),
        created_by=str(by.actor),
        created_at=tx.now,
        expires_at=tx.now + LIFETIME,
    )
    members.insert_invitation(tx, row)
    identity.audit(tx, org_id, by.actor, "member.invite", row.id, {"email": email, "role": role.value})
    return Invited(token, row)


def withdraw(tx: Tx, org_id: str, invitation_id: str, actor: str) -> None:
    """Void an invitation; `NotFound` invitation_not_found."""
    gone = members.remove_invitation(tx, org_id, invitation_id)
    if gone is None:
        raise NotFound("There is no such invitation.", code="invitation_not_found", field="invitation_id")
    identity.audit(tx, org_id, actor, "member.withdraw", invitation_id, {"email": gone.email})


def look(conn: Connection, token: str, now: float) -> tuple[PresentedInvitation, PersonRow | None]:
    """An open invitation, and the account its address has, if any; `NotFound` invitation_not_found."""
    found = members.invitation(conn, hash_of(token))
    if found is None or found.expires_at <= now or not found.org_active:
        raise NotFound(
            "This invitation was used, withdrawn, or has expired.", code="invitation_not_found", field="token"
        )
    return found, members.person_by_email(conn, found.email)


def accept(tx: Tx, token: str, user_id: str | None, name: str, password_hash: str | None) -> str:
    """Join by an invitation: with the account `user_id`, whose password was proved, or a new one. The person.

    Errors: `NotFound` invitation_not_found, `Conflict` person_exists (made meanwhile) or already_member.
    """
    invitation, person = look(tx.conn, token, tx.now)
    if (person.id if person else None) != user_id:
        raise Conflict("An account of this address was made meanwhile; try again.", code="person_exists")
    org_id, email, role = invitation.org_id, invitation.email, invitation.role
    if members.remove_invitation(tx, org_id, invitation.id) is None:
        raise NotFound("This invitation was used.", code="invitation_not_found", field="token")
    _not_yet(tx, org_id, email)
    caps.check(tx, org_id, "members")
    joined = user_id or members.insert_person(tx, email, name, password_hash)
    members.add(tx, org_id, joined, role)
    identity.audit(tx, org_id, f"user:{joined}", "member.join", joined, {"email": email, "role": role})
    return joined


def change(tx: Tx, org_id: str, user_id: str, role: Role, by: By) -> MemberRow:
    """Change a member's role; what their keys and sign-ins may do follows at their next call. The member.

    Errors: `NotFound` member_not_found, `Forbidden` role_exceeds_own or outranked, `Conflict` last_owner.
    """
    before = _locked_member(tx, org_id, user_id, by)
    _may_give(role, by)
    if before.role == role.value:
        return before
    if role is not Role.OWNER:
        _leaves_an_owner(tx, org_id, before)
    members.set_role(tx, org_id, user_id, role.value)
    data: Mapping[str, Any] = {"email": before.email, "from": before.role, "to": role.value}
    identity.audit(tx, org_id, by.actor, "member.change", user_id, data)
    return replace(before, role=role.value)


def remove(tx: Tx, org_id: str, user_id: str, by: By) -> None:
    """Take a member's place away; the keys they own are refused from now on.

    Errors: `NotFound` member_not_found, `Forbidden` outranked, `Conflict` last_owner.
    """
    before = _locked_member(tx, org_id, user_id, by)
    _leaves_an_owner(tx, org_id, before)
    members.remove(tx, org_id, user_id)
    data = {"email": before.email, "role": before.role}
    identity.audit(tx, org_id, by.actor, "member.remove", user_id, data)


def _locked_member(tx: Tx, org_id: str, user_id: str, by: By) -> MemberRow:
    """The member, locked: no other transaction changes members meanwhile."""
    identity.lock_organisation(tx, org_id)
    found = _own(tx, org_id, user_id)
    if exceeds(Role(found.role), by.role):
        raise Forbidden(f"An {found.role} is changed by their like only.", code="outranked", field="user_id")
    return found


def _own(tx: Tx, org_id: str, user_id: str) -> MemberRow:
    found = members.member(tx.scope(org_id), user_id)
    if found is None:
        raise NotFound("There is no such member.", code="member_not_found", field="user_id")
    return found


def _not_yet(tx: Tx, org_id: str, email: str) -> None:
    person = members.person_by_email(tx.conn, email)
    if person is not None and members.member(tx.scope(org_id), person.id) is not None:
        raise Conflict("This person is a member already.", code="already_member", field="email")


def _may_give(role: Role, by: By) -> None:
    """Through a person it makes, a key must not do what it may not do itself."""
    if exceeds(role, by.role):
        raise Forbidden(
            f"The role {role.value} is above your own, {by.role.value}.",
            code="role_exceeds_own",
            field="role",
        )
    if by.permissions is not None and not PERMISSIONS[role] <= by.permissions:
        raise Forbidden(
            f"Your key's scopes leave out some of what the role {role.value} may.",
            code="role_exceeds_own",
            field="role",
        )


def _leaves_an_owner(tx: Tx, org_id: str, member: MemberRow) -> None:
    if member.role == Role.OWNER and members.owners(tx.conn, org_id) == 1:
        raise Conflict(
            "This is the last owner. Make another member an owner first.", code="last_owner", field="role"
        )
