"""The server that commands talk to, and the key they send it.

The first of these that is given: `--url`, RUNYARD_URL, `--profile` or RUNYARD_PROFILE, the profile in use
(`runyard login`), the server of this machine's home. The admin key of the home goes only to a server that proves
that it is this home's (see `runyard_common.identity.rules.server_proof`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runyard.server_url import base_url
from runyard_launch.cli import profiles
from runyard_launch.problems import CommandFailed, Outcome, SettingsProblem

URL: Final = "RUNYARD_URL"
API_KEY: Final = "RUNYARD_API_KEY"
PROFILE: Final = "RUNYARD_PROFILE"


@dataclass(frozen=True)
class Target:
    """A server's base URL and an API key for it."""

    url: str
    key: str


def chosen(url: str = "", key_file: Path | None = None) -> Target:
    """What to talk to. Raises `CommandFailed` where there is no key for it."""
    base = remote(url)
    if base is None and not url:
        return _local(key_file)
    target = base or Target(server_url(url, "url"), "")
    key = _read(key_file) if key_file else target.key
    return Target(target.url, key) if key else _with_home_key(target.url)


def remote(url: str = "") -> Target | None:
    """The server that an option, a variable or a profile names; None where it is this machine's home.

    The key is empty where the variable or profile has none, or belongs to another server than `--url` names.
    """
    known, environ_key = _given(URL), _given(API_KEY)
    environ_url = server_url(known, URL) if known else ""
    if url:
        wanted = server_url(url, "url")
        same = environ_url in ("", wanted)
        return Target(wanted, usable_key(environ_key, API_KEY) if same else "")
    if environ_url:
        return Target(environ_url, usable_key(environ_key, API_KEY))
    profile = profiles.current(_given(PROFILE))
    if profile is None:
        return None
    return Target(server_url(profile.url, "profile"), usable_key(profile.key or environ_key, "profile"))


def server_url(text: str, field: str) -> str:
    """A server's base URL; `CommandFailed` invalid_url names the field, and repeats nothing of the URL."""
    try:
        return base_url(text)
    except ValueError as error:
        raise CommandFailed(str(error), "invalid_url", Outcome.REFUSED, field=field) from None


def usable_key(text: str, field: str) -> str:
    """An API key; `CommandFailed` invalid_key for a text that cannot be sent as one."""
    key = text.strip()
    if all("!" <= character <= "~" for character in key):
        return key
    raise CommandFailed(
        "This is no API key: it has spaces, several lines, or characters that no key has. Give the text that "
        "`runyard keys create` wrote, and nothing else.",
        "invalid_key",
        Outcome.REFUSED,
        field=field,
    )


def _local(key_file: Path | None) -> Target:
    from runyard_launch.supervisor import home_server

    server = home_server.of_settings()
    key = _read(key_file) if key_file else usable_key(_given(API_KEY), API_KEY)
    if key:
        return Target(server.url, key)
    key = _read(server.admin_key)
    server.check()
    return Target(server.url, key)


def _with_home_key(url: str) -> Target:
    """The server at `url` with the admin key of this home, if the server is this home's."""
    from runyard_launch.supervisor import home_server

    try:
        server = home_server.of_settings(url)
    except SettingsProblem:
        server = None
    if server is None or not server.admin_key.exists():
        raise CommandFailed(
            f"There is no API key for {url}. Set RUNYARD_API_KEY, name a file with --key-file, or run "
            f"`runyard login {url}`.",
            "no_api_key",
            Outcome.REFUSED,
        )
    server.check()
    return Target(url, _read(server.admin_key))


def _read(file: Path) -> str:
    try:
        key = file.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError):
        key = ""
    if key:
        return usable_key(key, "key_file")
    raise CommandFailed(
        f"There is no key in {file}: name a file with --key-file, set RUNYARD_API_KEY, or start the server "
        "(runyard up), which makes one.",
        "no_api_key",
        Outcome.REFUSED,
    )


def _given(name: str) -> str:
    """A variable of the environment or of `.env`."""
    if value := os.environ.get(name):
        return value.strip()
    if not Path(".env").is_file():
        return ""
    from dotenv import dotenv_values

    return (dotenv_values(".env").get(name) or "").strip()
