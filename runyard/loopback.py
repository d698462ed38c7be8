"""Calls to this machine itself ignore HTTP_PROXY: a proxy's own loopback is another machine's."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

#: The `mounts` of an httpx2 client that calls servers here and elsewhere: none of these asks a proxy.
STRAIGHT: Final[Mapping[str, None]] = {
    "all://localhost": None,
    "all://127.0.0.1": None,
    "all://[::1]": None,
}

_NO_PROXY: Final = ("NO_PROXY", "no_proxy")


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine itself, by `localhost` or a loopback address."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def exempt(environ: MutableMapping[str, str]) -> None:
    """Add this machine to NO_PROXY, for libraries that read nothing else (urllib, the S3 client).

    For processes that run no code of agents: their environment is the author's.
    """
    for name in _NO_PROXY:
        known = [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
        environ[name] = ",".join(dict.fromkeys([*known, "localhost", "127.0.0.1", "::1"]))
