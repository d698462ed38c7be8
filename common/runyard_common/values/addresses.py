"""Addresses in settings: folders, URLs and origins (RFC 6454), checked, and shown without passwords. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from runyard_common.values.errors import ConfigurationError

#: Schemes that are read, and the one to write.
DATABASES: Final = dict.fromkeys(
    ("postgresql", "postgres", "postgresql+psycopg", "sqlite"), "postgresql:// or sqlite:///"
)
#: Hosts that mean every address of a machine, and where the machine itself reaches them.
EVERYWHERE: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
_VARIABLE: Final = re.compile(r"\$(\w+|\{\w*\}?)")
_PASSWORD: Final = re.compile(r"(\b[a-zA-Z][\w+.-]*://[^\s/?#:@]*):(?!\d+[/?#\s])[^\s\"'<>]*@")
_SENTINEL_PASSWORD: Final = re.compile(r"([?&]sentinel_password=)[^&\s\"'<>]*")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def expanded(text: str) -> str:
    """A folder with its ~ and $VARIABLES filled in. `ValueError` names a variable or user that is not there."""
    whole = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 - it may be a module's name: no Path
    if unknown := _VARIABLE.search(whole):
        raise ValueError(f"it names the variable {unknown[0]}, which is not set")
    if whole.startswith("~"):
        raise ValueError(f"there is no home folder of {whole.partition('/')[0]}")
    return whole


def checked(url: str, schemes: Mapping[str, str]) -> str:
    """The same URL; `ValueError`, which does not quote it, unless it has one of the schemes and can be read."""
    if not url:
        return url
    scheme, found, _ = url.partition("://")
    known = next(iter(schemes.values()))
    if not found:
        raise ValueError(f"it is no URL: write {known}")
    if scheme not in schemes:
        raise ValueError(f"it begins with {scheme}://, but must begin with {known}")
    return readable(url)


def readable(url: str) -> str:
    """The same URL; `ValueError`, which does not quote it, where its parts are ambiguous."""
    try:
        parts = urlsplit(url)
        _ = parts.port, unquote(parts.password or "", errors="strict")
        good = not _BROKEN_ESCAPE.search(parts.netloc)
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            "it cannot be read: the port must be a number, and the characters @ : / ? # % of a password "
            "percent-encoded (%40 for @)"
        )
    return url


def base_url(url: str) -> str:
    """A public http(s) URL without its trailing slash; `ValueError` unless it is one."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            "it is no http:// or https:// URL with a host, such as https://agents.example/runyard"
        )
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("it may hold a host, a port and a path, nothing more")
    return url.rstrip("/")


def http_url(url: str) -> str:
    """The same http(s) URL; `ValueError`, which does not quote it, unless it is one with a host."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or " " in url:
        raise ValueError("it is no http:// or https:// URL with a host")
    return url


def bracketed(host: str) -> str:
    """The host as written in a URL: an IPv6 address in brackets, the % of its zone escaped."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def masked(text: str) -> str:
    """The text, with the passwords of the URLs in it left out."""
    if "://" not in text:
        return text
    return _SENTINEL_PASSWORD.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


ALLOWED_ORIGINS: Final = "RUNYARD_ALLOWED_ORIGINS"
ANY_ORIGIN: Final = "*"


def parse_origins(text: str) -> list[str]:
    """The comma-separated origins, each without a trailing slash. `ConfigurationError` quotes one that is none."""
    origins = [origin.strip().rstrip("/") for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if origin != ANY_ORIGIN and not _is_origin(origin):
            message = f"{ALLOWED_ORIGINS}: {origin!r} is no origin; write https://host, or http://host:port."
            raise ConfigurationError(message, field=ALLOWED_ORIGINS)
    return origins


def _is_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    more = parts.path or parts.query or parts.fragment or parts.username is not None
    return parts.scheme in ("http", "https") and has_host and not more
