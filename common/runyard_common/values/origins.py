"""Origins of RUNYARD_ALLOWED_ORIGINS: the sites whose pages may call the api (RFC 6454). Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from runyard_common.values.errors import ConfigurationError

SETTING: Final = "RUNYARD_ALLOWED_ORIGINS"
ANY: Final = "*"


def parse(text: str) -> list[str]:
    """The comma-separated origins, each without a trailing slash. `ConfigurationError` quotes one that is none."""
    origins = [origin.strip().rstrip("/") for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if origin != ANY and not _is_origin(origin):
            raise ConfigurationError(
                f"{SETTING}: {origin!r} is no origin; write https://host, or http://host:port.", field=SETTING
            )
    return origins


def _is_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    more = parts.path or parts.query or parts.fragment or parts.username is not None
    return parts.scheme in ("http", "https") and has_host and not more
