"""`runyard backup`, `runyard restore`: an installation of one machine in a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from runyard_launch.cli.terminal import AsJson, done, examples

app = typer.Typer()


@app.command(epilog=examples("runyard backup runyard-monday.tar.gz"))
def backup(
    file: Annotated[Path, typer.Argument(help="The archive to make; it must not be there.", dir_okay=False)],
    as_json: AsJson = False,
) -> None:
    """Write this machine's installation to one archive.

    Database, files and keys, while it runs. The archive opens every stored secret: keep it as you keep the home. For
    SQLite and a folder of files.
    """
    from runyard_launch import backups
    from runyard_launch.supervisor.preflight import read_settings

    settings = read_settings()
    made = backups.make(settings, file)
    keys = " RUNYARD_SECRET_KEY is a setting: keep it with the archive." if settings.secret_key else ""
    done(
        f"{file} has {made.files} files, {made.database_bytes} bytes of database and "
        f"{', '.join(made.keys) or 'no key'}.{keys}",
        {"file": file, **asdict(made)},
        as_json,
    )


@app.command(epilog=examples("runyard restore runyard-monday.tar.gz"))
def restore(
    file: Annotated[
        Path, typer.Argument(help="What `runyard backup` has made.", exists=True, dir_okay=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Make the home of such an archive, all or nothing.

    RUNYARD_HOME must be empty, or not be there.

    Stop the original first: both would run what was under way, and deliver what was to be delivered.
    """
    from runyard_launch import backups
    from runyard_launch.supervisor.preflight import read_settings

    home = read_settings().home
    found = backups.restore(file, home)
    done(
        f"{home} is restored: {found.files} files, {found.database_bytes} bytes of database. Start it: runyard up",
        {"home": home, **asdict(found)},
        as_json,
    )
