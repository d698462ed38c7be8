"""`runyard secrets`: the key that seals stored secrets, from the installation's own machine."""

from __future__ import annotations

from dataclasses import asdict

import typer

from runyard_launch.cli.terminal import AsJson, print_rows
from runyard_launch.problems import CommandFailed

app = typer.Typer(
    no_args_is_help=True,
    help="Change the key that seals stored secrets.",
)
_COLUMNS = {"column": "column", "sealed": "sealed anew", "kept": "left", "broken": "cannot be opened"}


@app.command()
def reseal(as_json: AsJson = False) -> None:
    """Seal every stored secret with the newest key.

    That is the first of RUNYARD_SECRET_KEY; after that the others may go. The installation works on meanwhile, if
    all its processes know both keys. The exit code is 1 when there is a secret that no key opens.
    """
    from runyard_common.credentials.rules.sealing import Sealer
    from runyard_common.credentials.service import reseal as seal_anew
    from runyard_common.identity.service.identity import secret_key
    from runyard_launch.cli.installation import opened

    with opened() as (store, settings):
        done = list(seal_anew(store, Sealer(secret_key(settings))))
    print_rows(map(asdict, done), _COLUMNS, as_json)
    broken = sum(len(column.broken) for column in done)
    if broken:
        raise CommandFailed(
            f"{broken} secrets were sealed with a key that is not named: add it, or replace them.",
            "secrets_not_opened",
        )
