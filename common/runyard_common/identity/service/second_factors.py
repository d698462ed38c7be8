"""Second factors: enrolling an authenticator, using its codes once each, and taking it away."""

from __future__ import annotations

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import logins, second_factors
from runyard_common.identity.rules import one_time_codes
from runyard_common.identity.service.logins import note
from runyard_common.values.errors import Conflict

#: How a code was known, for the audit log.
TOTP, RECOVERY = "totp", "recovery_code"


def enrol(tx: Tx, user_id: str, sealer: Sealer) -> str:
    """Make a secret, which counts once it is confirmed. The secret; `Conflict` second_factor_exists."""
    found = second_factors.get(tx.conn, user_id)
    if found is not None and found.confirmed_at is not None:
        raise Conflict(
            "You have a second factor already; remove it first, with a code of it.",
            code="second_factor_exists",
        )
    secret = one_time_codes.new_secret()
    second_factors.put(tx, user_id, sealer.seal(secret))
    return secret


def confirm(tx: Tx, user_id: str, code: str, sealer: Sealer, keep: str, actor: str) -> list[str] | None:
    """Let the secret count, as a code of it proves that it was kept. The recovery codes; None for a wrong code.

    Every other sign-in of the person than that of the hash `keep` ends. Error: `Conflict` second_factor_not_begun.
    """
    found = second_factors.get(tx.conn, user_id)
    if found is None or found.confirmed_at is not None:
        raise Conflict(
            "There is no second factor to confirm: begin with POST /me/second-factor.",
            code="second_factor_not_begun",
        )
    if use(tx, user_id, code, sealer) is None:
        return None
    second_factors.confirm(tx, user_id)
    logins.remove_others(tx, user_id, keep)
    note(tx, user_id, actor, "second_factor.enrol", {})
    return _new_codes(tx, user_id)


def use(tx: Tx, user_id: str, code: str, sealer: Sealer) -> str | None:
    """Use a code: by what it was known (`TOTP`, `RECOVERY`), None when it is wrong or was used before."""
    found = second_factors.get(tx.conn, user_id)
    if found is None:
        return None
    step = one_time_codes.step_of(sealer.open(found.secret), code, tx.now, found.last_step)
    if step is not None:
        return TOTP if second_factors.use_step(tx, user_id, step) else None
    digest = one_time_codes.recovery_hash(user_id, code)
    return RECOVERY if second_factors.use_recovery_code(tx, user_id, digest) else None


def renew_recovery_codes(tx: Tx, user_id: str, actor: str) -> list[str]:
    """New recovery codes in place of those left. Error: `Conflict` no_second_factor."""
    if not is_enrolled(tx, user_id):
        raise Conflict("You have no second factor; enrol one first.", code="no_second_factor")
    note(tx, user_id, actor, "second_factor.renew", {})
    return _new_codes(tx, user_id)


def is_enrolled(tx: Tx, user_id: str) -> bool:
    """Whether a person has a second factor that counts."""
    found = second_factors.get(tx.conn, user_id)
    return found is not None and found.confirmed_at is not None


def remove(tx: Tx, user_id: str, actor: str, end_sign_ins: bool = False) -> bool:
    """Take the second factor away; whether there was one. An operator's reset also ends the person's sign-ins."""
    if not second_factors.remove(tx, user_id):
        return False
    if end_sign_ins:
        logins.remove_others(tx, user_id, None)
    note(tx, user_id, actor, "second_factor.remove", {})
    return True


def _new_codes(tx: Tx, user_id: str) -> list[str]:
    codes = one_time_codes.new_recovery_codes()
    second_factors.put_recovery_codes(
        tx, user_id, [one_time_codes.recovery_hash(user_id, code) for code in codes]
    )
    return codes
