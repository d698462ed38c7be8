"""`runyard members`: the people of an organisation, of this machine's installation or of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_common.identity.rules.roles import Role
from runyard_launch.cli.administration import DEFAULT, Org, administered
from runyard_launch.cli.remote import KeyFile, Url
from runyard_launch.cli.terminal import AsJson, done, examples, print_rows, read_secret
from runyard_launch.problems import refused

if TYPE_CHECKING:
    from runyard_common.identity.queries.members import PersonRow

app = typer.Typer(
    no_args_is_help=True,
    help="Invite people, list them, and help who forgot a password.",
)


def _address(value: str) -> str:
    """An address that a server would read at all; whether it is one is the service's to say."""
    from runyard_common.identity.rules import emails

    if len(value) > emails.LONGEST:
        raise typer.BadParameter(f"an e-mail address has {emails.LONGEST} characters at most")
    return value


@app.command(
    epilog=examples(
        "runyard members invite you@example.com --role owner",
        "runyard members invite ann@example.com --role viewer --json",
    )
)
def invite(
    email: Annotated[str, typer.Argument(callback=_address, help="The person's e-mail address.")],
    role: Annotated[Role, typer.Option(help="What they may do at most.")] = Role.MEMBER,
    org: Org = DEFAULT,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Invite a person, such as the first owner. The link goes to standard output, once."""
    with administered(url, key_file, org) as admin:
        made = admin.invite(email, role)
    if not as_json:
        typer.echo("Hand this link to the person; it works once, for seven days:", err=True)
    done(made["link"], made, as_json)


@app.command("list")
def list_members(
    org: Org = DEFAULT, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List members and open invitations."""
    columns = {
        "user_id": "id", "email": "e-mail", "name": "name", "role": "role", "state": "state", "since": "since",
    }  # fmt: skip
    with administered(url, key_file, org) as admin:
        rows = admin.members()
    print_rows(rows, columns, as_json)


@app.command()
def set_password(
    email: Annotated[str, typer.Argument(help="The person's e-mail address.")], as_json: AsJson = False
) -> None:
    """Set a password for who forgot theirs.

    It is asked for without showing it; without a terminal it is the first line of standard input. All their sign-ins
    end. It opens nothing until the person has changed it at their next sign-in. For the server's own machine.
    """
    password = read_secret(
        "New password", "password", f"echo PASSWORD | runyard members set-password {email}", twice=True
    )
    from runyard_common.identity.queries import members
    from runyard_common.identity.rules import passwords
    from runyard_common.identity.rules.actors import OPERATOR
    from runyard_common.identity.service import logins
    from runyard_launch.cli.installation import opened

    with opened() as (store, _):
        person = _person(store, email)
        with store.read() as conn:
            places = members.organisations_of(conn, person.id)
        about = [person.name, *(place.name for place in places)]
        passwords.check(password, "password", person.email, about)
        with store.begin() as tx:
            logins.change_password(tx, person.id, passwords.hashed(password), None, OPERATOR)
    sentence = f"The password of {person.email} is set; they must change it when they sign in."
    done(sentence, {"email": person.email, "password_set": True}, as_json)


@app.command()
def reset_second_factor(
    email: Annotated[str, typer.Argument(help="The person's e-mail address.")], as_json: AsJson = False
) -> None:
    """Take a person's second factor away.

    For who has lost the authenticator. All their sign-ins end. For the server's own machine.
    """
    from runyard_common.identity.rules.actors import OPERATOR
    from runyard_common.identity.service import second_factors
    from runyard_launch.cli.installation import opened

    with opened() as (store, _):
        person = _person(store, email)
        with store.begin() as tx:
            removed = second_factors.remove(tx, person.id, OPERATOR, end_sign_ins=True)
    if not removed:
        raise refused(f"{person.email} has no second factor.", "no_second_factor", 409)
    sentence = f"{person.email} signs in by password alone now; have them enrol a new second factor."
    done(sentence, {"email": person.email, "second_factor": False}, as_json)


def _person(store: Any, email: str) -> PersonRow:
    """The account of this address; `CommandFailed` where there is none."""
    from runyard_common.identity.queries import members
    from runyard_common.identity.rules import emails

    with store.read() as conn:
        found = members.person_by_email(conn, emails.normalised(email))
    if found is None:
        raise refused(f"There is no account for {email}.", "account_not_found", 404, field="email")
    return found
