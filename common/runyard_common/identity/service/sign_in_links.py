"""One-time links that sign in to the console on the server's own machine, for the operator, who can read the home.

A link's token is known by a file in the home, named by its hash, so that only who could read the admin key can make one
as well. Using it removes the file: of several that try, one succeeds. What it opens is an API key of its own that ends.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runyard_common.credentials.queries import key_files
from runyard_common.values.errors import NotFound
from runyard_common.values.json_text import JsonObject

if TYPE_CHECKING:
    from runyard_common.database.transaction import Tx
    from runyard_common.identity.service.identity import NewKey

#: Seconds until a link that was not used is void, and until the key it gave ends.
LASTS: Final = 600.0
SESSION: Final = 12 * 3600.0
_FOLDER: Final = "sign-in"


def make(home: Path, now: float) -> str:
    """A token, once: `<console>#/enter/<token>` signs in. `now` is the time in epoch seconds. `OSError`."""
    folder = home / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.iterdir():
        if not file.name.startswith(".") and _expiry(file) < now:
            file.unlink(missing_ok=True)
    token = secrets.token_urlsafe(32)
    key_files.write(folder / _name_of(token), repr(now + LASTS), replace=True)
    return token


def use(home: Path, token: str, now: float) -> None:
    """Use a link up. Raises `NotFound` sign_in_link_not_found for one that was used, has expired, or never was."""
    file = home / _FOLDER / _name_of(token)
    expires_at = _expiry(file)
    try:
        file.unlink()
    except OSError:
        expires_at = 0.0
    if expires_at < now:
        raise NotFound(
            "The link was used or has expired: `runyard console` makes another.",
            code="sign_in_link_not_found",
            field="token",
        )


def open_session(tx: Tx, org_id: str, origin: JsonObject) -> tuple[NewKey, float]:
    """The key that the console uses, and when it ends. It is audited as a sign-in too, with its `origin`."""
    # Here, because the launcher makes links, and shall not load what talks to databases for it.
    from runyard_common.identity.queries import identity
    from runyard_common.identity.rules.actors import OPERATOR, Actor
    from runyard_common.identity.rules.roles import Role
    from runyard_common.identity.service.identity import KeyRequest, create_key

    actor, ends = Actor(OPERATOR, "native"), tx.now + SESSION
    made = create_key(
        tx, org_id, KeyRequest("console (sign-in link)", Role.ADMIN, None, ends), actor, Role.OWNER
    )
    identity.audit(tx, org_id, actor, "sign_in.link", made.id, origin)
    return made, ends


def _name_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _expiry(file: Path) -> float:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return 0.0
