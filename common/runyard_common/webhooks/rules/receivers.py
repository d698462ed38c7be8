"""Receivers: whose limits a delivery counts against, an endpoint or a host that runs call back."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

ENDPOINT_PREFIX = "wh_"
CALLBACK_PREFIX = "cb_"
#: In place of what is not shown of a URL.
HIDDEN = "…"


def host_of(url: str) -> str:
    """Host and port of a URL that was checked before, in lower case."""
    return urlsplit(url).netloc.lower()[:255]


def callback_receiver(org_id: str, url: str) -> str:
    """The receiver that all callbacks of an organisation to one host share."""
    digest = hashlib.blake2b(f"{org_id}\n{host_of(url)}".encode(), digest_size=24).hexdigest()
    return CALLBACK_PREFIX + digest


def origin_of(url: str) -> str:
    """A URL as those see it who may not change it: its path, query and user name often are a secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return HIDDEN
    shown = f"[{host}]" if ":" in host else host
    shown = f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    return url if plain else f"{shown}/{HIDDEN}"
