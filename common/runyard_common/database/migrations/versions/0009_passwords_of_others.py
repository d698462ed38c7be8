"""passwords that another person chose are known as such, and are changed before they open anything."""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_USERS = sa.table(
    "users", sa.column("id"), sa.column("password_hash"), sa.column("must_change_password", sa.Boolean)
)
_MEMBERS = sa.table("members", sa.column("org_id"), sa.column("user_id"))
_LOGINS = sa.table("logins", sa.column("user_id"))
_AUDIT = sa.table(
    "audit", sa.column("org_id"), sa.column("actor"), sa.column("action"), sa.column("object_id")
)
#: What the audit log holds of an account whose password another person has chosen.
_BY_OTHERS = ("member.add", "member.set_password")


def upgrade() -> None:
    """Apply. A row does not hold who chose its password, so the audit log decides.

    An account made by accepting an invitation has a password of its own. Every other one must change it, and its
    sign-ins end. Where an account that one organisation made belongs to another one too, its maker may know the
    password that opens the other: that password is void, and the operator sets a new one for the person.
    """
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("must_change_password", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    joined, makers = _history()
    places = _places()
    for (user_id,) in (
        op.get_bind().execute(sa.select(_USERS.c.id).where(_USERS.c.password_hash.is_not(None))).all()
    ):
        if user_id in joined and user_id not in makers:
            continue
        made_in = makers.get(user_id, set())
        void = bool(made_in) and not places[user_id] <= made_in
        values = {"must_change_password": True} | ({"password_hash": None} if void else {})
        op.execute(sa.update(_USERS).where(_USERS.c.id == user_id).values(**values))
        op.execute(sa.delete(_LOGINS).where(_LOGINS.c.user_id == user_id))


def downgrade() -> None:
    """Undo. Passwords that were void stay so."""
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_column("must_change_password")


def _history() -> tuple[set[str], dict[str, set[str]]]:
    """Who joined by an invitation of their own; and by account, the organisations that chose its password."""
    joined: set[str] = set()
    makers: dict[str, set[str]] = defaultdict(set)
    query = sa.select(_AUDIT).where(_AUDIT.c.action.in_(("member.join", *_BY_OTHERS)))
    for row in op.get_bind().execute(query):
        if row.action == "member.join" and row.actor == f"user:{row.object_id}":
            joined.add(row.object_id)
        elif row.action in _BY_OTHERS and row.actor != f"user:{row.object_id}":
            makers[row.object_id].add(row.org_id)
    return joined, makers


def _places() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for org_id, user_id in op.get_bind().execute(sa.select(_MEMBERS.c.org_id, _MEMBERS.c.user_id)):
        found[user_id].add(org_id)
    return found
