"""`runyard members`: the people of an organisation, from the installation's own machine."""

from __future__ import annotations

from typing import Annotated

import typer

from runyard_common.domain import emails, passwords
from runyard_common.domain.actors import OPERATOR
from runyard_common.domain.roles import Role
from runyard_common.services import logins, second_factors
from runyard_common.services import members as service
from runyard_common.services.identity import DEFAULT
from runyard_common.services.members import By
from runyard_common.store import members
from runyard_launch.installation import fail, opened, organisation
from runyard_launch.keys import Org, instant
from runyard_launch.listing import AsJson, tell

app = typer.Typer(no_args_is_help=True, help="Invite people, list them, and help who forgot a password.")


@app.command()
def invite(
    email: Annotated[str, typer.Argument(help="Whom.")],
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.MEMBER,
    org: Org = DEFAULT,
) -> None:
    """Invite a person, such as the first owner. The link goes to standard output, once."""
    with opened() as (store, settings):
        org_id = organisation(store, org)["id"]
        with store.begin() as tx:
            address = emails.normalised(email)
            made = service.invite(tx, org_id, address, role, By(OPERATOR, Role.OWNER))
        typer.echo("Hand this link to the person; it works once, for seven days:", err=True)
        typer.echo(f"{settings.base_url}/console#/invitation/{made.token}")


@app.command("list")
def list_members(org: Org = DEFAULT, as_json: AsJson = False) -> None:
    """List the people of an organisation."""
    columns = {"user_id": "id", "email": "e-mail", "name": "name", "role": "role", "since": "since"}
    with opened() as (store, _):
        org_id = organisation(store, org)["id"]
        with store.read() as conn:
            found = members.members(conn, org_id, 10_000)
    told = [dict(row) | {"since": instant(row["created_at"])} for row in found]
    tell([{name: row[name] for name in columns} for row in told], columns, as_json)


@app.command()
def set_password(email: Annotated[str, typer.Argument(help="Whose.")]) -> None:
    """Set a password, asked for without showing it, for who forgot theirs. All their sign-ins end.

    It opens nothing until the person has changed it at their next sign-in.
    """
    password = typer.prompt("New password", hide_input=True, confirmation_prompt=True)
    with opened() as (store, _):
        with store.read() as conn:
            person = members.person_by_email(conn, emails.normalised(email))
            places = members.organisations_of(conn, person["id"]) if person else []
        if person is None:
            fail(f"There is no account for {email}.")
            return
        about = [person["name"], *(str(place["name"]) for place in places)]
        passwords.check(password, "password", person["email"], about)
        with store.begin() as tx:
            logins.change_password(tx, person["id"], passwords.hashed(password), None, OPERATOR)
    typer.echo(f"The password of {person['email']} is set; they must change it when they sign in.")


@app.command()
def reset_second_factor(email: Annotated[str, typer.Argument(help="Whose.")]) -> None:
    """Take a person's second factor away, for who has lost the authenticator. All their sign-ins end."""
    with opened() as (store, _):
        with store.read() as conn:
            person = members.person_by_email(conn, emails.normalised(email))
        if person is None:
            fail(f"There is no account for {email}.")
            return
        with store.begin() as tx:
            if not second_factors.remove(tx, person["id"], OPERATOR, end_sign_ins=True):
                fail(f"{person['email']} has no second factor.")
    typer.echo(f"{person['email']} signs in by password alone now; have them enrol a new second factor.")
