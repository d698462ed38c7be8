"""Receivers: whose limits a delivery counts against, an endpoint or a host that runs call back."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

ENDPOINT_PREFIX = "wh_"
CALLBACK_PREFIX = "cb_"


def host_of(url: str) -> str:
    """Host and port as they stand in a URL that was checked before, in lower case."""
    return urlsplit(url).netloc.lower()[:255]


def callback_receiver(org_id: str, url: str) -> str:
    """The receiver that all callbacks of an organisation to one host share."""
    digest = hashlib.blake2b(f"{org_id}\n{host_of(url)}".encode(), digest_size=24).hexdigest()
    return CALLBACK_PREFIX + digest


def without_query(url: str) -> str:
    """A URL as those see it who may not change it: without its query and fragment, which often hold a secret."""
    return urlsplit(url)._replace(query="", fragment="").geturl()
