"""The server of this machine's home: where it listens, and the proof that a server is this home's."""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from runyard.loopback import is_loopback
from runyard_launch.problems import CommandFailed, Outcome

#: Written by `runyard up` into the home: where its api listens, which RUNYARD_PORT=0 leaves open.
ADDRESS_FILE: Final = "api.url"
_SECONDS: Final = 5.0


@dataclass(frozen=True)
class HomeServer:
    """A server at `url` that is to be the one of `home`. `own_port`: there is no proxy in between.
    `local_url` is where its api listens on this machine."""

    url: str
    home: Path
    own_port: bool
    local_url: str = ""

    @property
    def admin_key(self) -> Path:
        """The admin key of the home."""
        return self.home / "admin.key"

    def check(self) -> None:
        """`CommandFailed` unless the server proves that it is this home's.

        It signs a number that we make up, and the port it listens on, with a key in the home; another program at
        that port cannot, not even by asking the true server.
        """
        import httpx2

        from runyard_common.identity.rules import server_proof

        challenge = secrets.token_hex(16)
        try:
            answer = httpx2.get(
                f"{self.url}/healthz",
                headers={server_proof.CHALLENGE: challenge},
                timeout=_SECONDS,
                trust_env=not is_loopback(self.url),
            )
        except httpx2.InvalidURL as error:
            raise CommandFailed(
                f"The server's URL cannot be read: {error}.", "invalid_url", Outcome.REFUSED
            ) from None
        except httpx2.HTTPError:
            raise unreachable(self.url) from None
        key = self._proof_key()
        port = urlsplit(self.url).port if self.own_port else None
        if key is None or not server_proof.holds(
            answer.headers.get(server_proof.PROOF), key, challenge, port
        ):
            raise CommandFailed(
                f"The server at {self.url} is not the one of {self.home}, so the admin key was not sent. Is "
                "`runyard up` running there? For another server give a key of its own: RUNYARD_API_KEY or "
                "--key-file.",
                "not_this_home",
                Outcome.REFUSED,
            )

    def _proof_key(self) -> str | None:
        from runyard_common.identity.rules import server_proof

        try:
            return (self.home / server_proof.KEY_FILE).read_text().strip()
        except OSError:
            return None


def of_settings(url: str = "") -> HomeServer:
    """The server of the settings' home, at `url` if one is given. Raises `SettingsProblem`."""
    from runyard_launch.supervisor.preflight import read_settings

    settings = read_settings()
    home = settings.home.resolve()
    if url:
        return HomeServer(url, home, own_port=is_loopback(url) and url != settings.public_url)
    local = _recorded(home) or settings.local_url
    if settings.public_url:
        return HomeServer(settings.public_url, home, own_port=False, local_url=local)
    return HomeServer(local, home, own_port=True, local_url=local)


def write_address(home: Path, url: str) -> None:
    """Record where the api of this process's `runyard up` listens."""
    file = home / ADDRESS_FILE
    draft = file.with_name(f".{file.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    draft.replace(file)


def sign_in_link(home: Path, url: str, page: str = "") -> str:
    """A link to the console at `url` that signs in once, within ten minutes, on this machine, and leads to `page`
    there, such as ``agents``. `CommandFailed`."""
    from runyard_common.identity.service import sign_in_links

    try:
        token = sign_in_links.make(home, time.time())
    except OSError as error:
        raise CommandFailed(
            f"The home {home} cannot be written ({error.strerror}): run this as its user.",
            "home_not_writable",
        ) from None
    return f"{url}/console#/enter/{token}" + (f"/{page}" if page else "")


def unreachable(url: str) -> CommandFailed:
    """The failure of a command whose server does not answer."""
    return CommandFailed(
        f"Cannot connect to {url}. Is the server running (runyard up)?",
        "unreachable",
        Outcome.UNREACHABLE,
        url=url,
    )


def _recorded(home: Path) -> str | None:
    """The address in the home, while the `runyard up` that wrote it runs."""
    try:
        found = json.loads((home / ADDRESS_FILE).read_text())
        os.kill(int(found["pid"]), 0)
        return str(found["url"])
    except PermissionError:  # it runs, as another user
        return str(found["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
