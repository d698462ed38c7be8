"""Secrets of an organisation, for its agents: set, rotated and deleted. A value is shown to no caller."""

from __future__ import annotations

import re
from typing import Final

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity, secrets
from runyard_common.identity.queries.secrets import SecretRow
from runyard_common.identity.service import caps
from runyard_common.values.errors import InvalidRequest, NotFound

#: Characters of a value. A shorter one would be found in ordinary text where it is redacted.
SHORTEST, LONGEST = 8, 65_536
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")


def check(name: str, value: str) -> None:
    """Refuse a name or a value that cannot be one: `InvalidRequest` invalid_field. It never shows the value."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "A secret's name has letters, digits and _ . -, 100 at most, and begins with a letter or _.",
            code="invalid_field",
            field="name",
        )
    if not SHORTEST <= len(value) <= LONGEST:
        raise InvalidRequest(
            f"A secret has {SHORTEST} to {LONGEST:,} characters.", code="invalid_field", field="value"
        )


def put(tx: Tx, org_id: str, name: str, sealed: bytes, by: str) -> SecretRow:
    """Set a secret, or rotate it: runs get the new value at their next `ctx.secret`. Error: `Conflict`
    too_many_secrets."""
    advisory.lock(tx, [f"secrets|{org_id}"])
    known = secrets.get(tx.scope(org_id), name) is not None
    if not known:
        caps.check(tx, org_id, "secrets")
    secrets.put(tx, org_id, name, sealed, by)
    identity.audit(tx, org_id, by, "secret.rotate" if known else "secret.set", name)
    found = secrets.get(tx.scope(org_id), name)
    assert found is not None
    return found


def remove(tx: Tx, org_id: str, name: str, by: str) -> None:
    """Delete a secret. Error: `NotFound` secret_not_found."""
    if not secrets.remove(tx, org_id, name):
        raise NotFound("There is no such secret.", code="secret_not_found", field="name")
    identity.audit(tx, org_id, by, "secret.delete", name)
