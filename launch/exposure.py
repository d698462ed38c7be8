"""What of an installation is open to others, for `runyard doctor`: each a sentence with what closes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from common.services.identity import ADMIN_KEY, JWT_SECRET, SECRET_KEY
from common.settings import Settings
from runyard.loopback import is_loopback

_OTHERS: Final = 0o077
_SECRETS: Final = (ADMIN_KEY, JWT_SECRET, SECRET_KEY)
_EVERYBODY: Final = "*"


def of_home(home: Path) -> str | None:
    """What in the home other users of this machine can read, or None."""
    for name in _SECRETS:
        if _readable(home / name):
            return f"{home / name} can be read by others: chmod 600 it"
    if _readable(home):
        return f"{home} is open to other users of this machine: chmod 700 {home}"
    return None


def of_settings(settings: Settings) -> Iterator[str]:
    """What others can do because of a setting; nothing where all is closed."""
    yield from _of_http(settings)
    for name, url in (("RUNYARD_BROKER_URL", settings.broker_url), ("RUNYARD_REDIS_URL", settings.redis_url)):
        parts = urlsplit(url)
        if parts.hostname and parts.password is None and not is_loopback(f"http://{parts.netloc}"):
            yield f"{name} has no password: whoever reaches that server can take wake-ups and forge live events"
    if settings.remote_control:
        yield "RUNYARD_REMOTE_CONTROL lets whoever can write to the broker stop workers"
    if settings.allow_private_urls:
        yield "RUNYARD_ALLOW_PRIVATE_URLS lets callers' webhooks and tool servers reach this network"
    if _EVERYBODY in [name.strip() for name in settings.public_tools.split(",")]:
        yield "RUNYARD_PUBLIC_TOOLS=* lets every organisation call every registered tool"
    if _EVERYBODY in [origin.strip() for origin in settings.allowed_origins.split(",")]:
        yield "RUNYARD_ALLOWED_ORIGINS=* lets pages of every site call the API with their visitors' keys"


def _of_http(settings: Settings) -> Iterator[str]:
    listens = not is_loopback(f"http://{_in_url(settings.host)}")
    if listens and not settings.public_url.startswith("https:"):
        yield (
            f"the api listens on {settings.host} without TLS: put a proxy with TLS in front and set "
            "RUNYARD_PUBLIC_URL=https://…, so that cookies are for TLS alone"
        )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _readable(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return bool(stat.S_IMODE(status.st_mode) & _OTHERS) and os.name == "posix"
