"""`runyard login`, `logout` and `profiles`: servers that commands talk to by name."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from runyard_launch.cli import profiles
from runyard_launch.cli.terminal import AsJson, done, examples, print_rows, read_secret
from runyard_launch.problems import CommandFailed, Outcome

app = typer.Typer()
profiles_app = typer.Typer(no_args_is_help=True, help="List servers, and choose one.")
Name = Annotated[
    str, typer.Argument(help="The profile's name; `local` is the server of this machine's home.")
]


@app.command(
    epilog=examples(
        "runyard login https://runs.example.com",
        "runyard login https://runs.example.com --name prod < key-file",
    )
)
def login(
    url: Annotated[str, typer.Argument(help="The server, such as https://runs.example.com.")],
    name: Annotated[
        str, typer.Option("--name", help="The profile's name; else the server's host and port.")
    ] = "",
    keep: Annotated[
        bool, typer.Option("--keep-current", help="Make the profile, but go on with the one in use.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a server's URL and API key, and talk to it from now on.

    The key is asked for, or read from standard input, so that it is in no list of processes and no history. It
    is tried before it is kept, in a file of mode 600.
    """
    from runyard_launch.cli.remote import Target, ask, client_of, server_url, usable_key

    server = server_url(url, "url")
    name = _name(name or urlsplit(server).netloc)
    typed = read_secret(f"API key for {server}", "api_key", f"runyard login {server} < KEY_FILE")
    key = usable_key(typed, "api_key")
    with client_of(Target(server, key)) as client:
        found = ask(client, "GET", "/me")
    profile = profiles.Profile(name, server, key)
    profiles.save(profile, use=not keep)
    role = found.get("role")
    fields = {"profile": profile.name, "url": server, "role": role, "current": not keep}
    done(
        f"Signed in to {server} as {role}; the profile is {profile.name}. "
        + ("" if keep else "Commands go there now; `runyard profiles use local` ends that."),
        fields,
        as_json,
    )


@app.command()
def logout(
    name: Annotated[str, typer.Argument(help="The profile to forget; else the one in use.")] = "",
    as_json: AsJson = False,
) -> None:
    """Forget a profile and its key.

    The key itself stays valid: `runyard keys revoke` ends it.
    """
    name = name or profiles.in_use()
    if name == profiles.LOCAL:
        raise CommandFailed(
            "No profile is in use: name one (`runyard profiles list`).",
            "no_such_profile",
            Outcome.REFUSED,
            field="name",
        )
    profiles.remove(name)
    done(f"The profile {name} is forgotten.", {"profile": name, "removed": True}, as_json)


@profiles_app.command("list")
def list_profiles(as_json: AsJson = False) -> None:
    """List the profiles, without their keys."""
    current = profiles.in_use()
    rows = [{"name": profiles.LOCAL, "url": None, "current": current == profiles.LOCAL}]
    rows += [{"name": one.name, "url": one.url, "current": one.name == current} for one in profiles.all_()]
    shown = rows if as_json else [row | {"current": "*" if row["current"] else ""} for row in rows]
    print_rows(shown, {"current": "in use", "name": "name", "url": "server"}, as_json)


@profiles_app.command()
def use(name: Name, as_json: AsJson = False) -> None:
    """Talk to a profile's server from now on."""
    profiles.use(name)
    done(f"Commands go to {name} now.", {"profile": name, "current": True}, as_json)


def _name(name: str) -> str:
    """The name of a new profile."""
    if name == profiles.LOCAL:
        raise CommandFailed(
            f"`{profiles.LOCAL}` is the server of this machine's home: choose another name with --name.",
            "invalid_name",
            Outcome.REFUSED,
            field="name",
        )
    return name
