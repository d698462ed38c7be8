"""Single sign-on: which account a provider's identity opens.

An identity opens the account it was linked with. A new one is linked by a person who is signed in already, or by
accepting an invitation to its verified address, or gets an account of its own where the operator's settings allow
it. It never gets an account that is there already: another person may have made it for the address, and would keep
their way in.
"""

from __future__ import annotations

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identities, identity
from runyard_common.identity.queries import members as accounts
from runyard_common.identity.rules.actors import Actor
from runyard_common.identity.rules.single_sign_on import Identity, SignOnRules
from runyard_common.identity.service import logins, members
from runyard_common.identity.service.identity import DEFAULT
from runyard_common.identity.service.logins import Origin, SignIn
from runyard_common.values.errors import Conflict, Forbidden

METHOD = "oidc"


def sign_in(tx: Tx, who: Identity, rules: SignOnRules, invitation: str | None, origin: Origin) -> SignIn:
    """Sign in who the provider has proved; with an `invitation`'s token they join by it.

    Errors: `Forbidden` account_not_linked, no_account, invitation_for_other; `NotFound` invitation_not_found;
    `Conflict` already_member.
    """
    found = identities.get(tx.conn, who.issuer, who.subject)
    user_id = found.user_id if found else None
    if invitation is not None:
        user_id = _join(tx, who, user_id, invitation)
    elif user_id is None:
        user_id = _made(tx, who, rules, origin)
    person = accounts.person(tx.conn, user_id)
    assert person is not None
    return logins.begin(tx, user_id, person.password_hash, None, origin, METHOD, METHOD)


def link(tx: Tx, who: Identity, user_id: str, origin: Origin) -> None:
    """Let the identity open the account of a person who is signed in.

    Errors: `Forbidden` email_differs, `Conflict` identity_taken.
    """
    person = accounts.person(tx.conn, user_id)
    if person is None or person.email != who.email:
        raise Forbidden("The provider knows you by another e-mail address.", code="email_differs")
    found = identities.get(tx.conn, who.issuer, who.subject)
    if found is not None and found.user_id != user_id:
        raise Conflict("This identity opens another account already.", code="identity_taken")
    if found is None:
        identities.add(tx, who.issuer, who.subject, user_id)
        logins.note(
            tx, user_id, Actor(f"user:{user_id}", origin.front), "identity.link", {"issuer": who.issuer}
        )


def unlink(tx: Tx, user_id: str, actor: str) -> None:
    """Let no identity open the account any longer. Error: `Conflict` no_password, which would leave no way in."""
    person = accounts.person(tx.conn, user_id)
    if person is None or person.password_hash is None:
        raise Conflict(
            "Single sign-on is the only way into this account: it has no password.", code="no_password"
        )
    if identities.remove_all(tx, user_id):
        logins.note(tx, user_id, actor, "identity.unlink", {})


def _join(tx: Tx, who: Identity, user_id: str | None, token: str) -> str:
    """Accept an invitation to the address that the provider has verified."""
    invited, person = members.look(tx.conn, token, tx.now)
    if invited.email != who.email:
        raise Forbidden("The invitation is for another e-mail address.", code="invitation_for_other")
    if (person.id if person else None) != user_id:
        raise _not_linked()
    joined = members.accept(tx, token, person.id if person else None, who.name, None)
    if user_id is None:
        identities.add(tx, who.issuer, who.subject, joined)
    return joined


def _made(tx: Tx, who: Identity, rules: SignOnRules, origin: Origin) -> str:
    """An account of its own, without a password, and a place in the operator's choice of organisation."""
    if accounts.person_by_email(tx.conn, who.email) is not None:
        raise _not_linked()
    org = None
    if rules.create_accounts:
        org = identity.organisation(tx.conn, rules.organisation) or identity.organisation_named(
            tx.conn, rules.organisation or DEFAULT
        )
    if org is None:
        raise Forbidden("You have no account here: ask for an invitation.", code="no_account")
    user_id = accounts.insert_person(tx, who.email, who.name, None)
    accounts.add(tx, org.id, user_id, rules.role.value)
    identities.add(tx, who.issuer, who.subject, user_id)
    data = {"email": who.email, "role": rules.role.value, "issuer": who.issuer}
    identity.audit(tx, org.id, Actor(f"user:{user_id}", origin.front), "member.join", user_id, data)
    return user_id


def _not_linked() -> Forbidden:
    return Forbidden(
        "Your address has an account that single sign-on does not open yet: sign in with its password, then link it "
        "on the account page.",
        code="account_not_linked",
    )
