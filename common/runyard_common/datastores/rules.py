"""How the connection to a datastore is encrypted, read from the parameters of its connection string. Pure.

One set of words for PostgreSQL and MySQL: `sslmode` (disable, prefer, require, verify-ca, verify-full) in the spelling
of either, `ssl=true` for verify-full, and `sslrootcert` or `ssl_ca` with the authority's certificate itself (PEM).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

Mode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]

_MODES: Final[dict[str, Mode]] = {
    "disable": "disable", "disabled": "disable", "allow": "prefer", "prefer": "prefer", "preferred": "prefer",
    "require": "require", "required": "require", "verify-ca": "verify-ca", "verify-full": "verify-full",
    "verify-identity": "verify-full",
}  # fmt: skip
_SWITCH: Final[dict[str, Mode]] = {
    "true": "verify-full", "1": "verify-full", "on": "verify-full", "yes": "verify-full",
    "false": "disable", "0": "disable", "off": "disable", "no": "disable",
}  # fmt: skip
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class DatabaseTls:
    """How a connection is encrypted. `authority` is the signing certificate (PEM), if not the system's."""

    mode: Mode = "prefer"
    authority: str | None = None

    @property
    def verifies(self) -> bool:
        """Whether the server must prove who it is."""
        return self.mode.startswith("verify")


def tls_of(parameters: Mapping[str, str]) -> DatabaseTls:
    """From the parameters of a connection string. Raises `ValueError` with a sentence for what is not understood."""
    given = {name.lower().replace("-", "_"): value for name, value in parameters.items()}
    mode: Mode = "prefer"
    if (switch := given.get("ssl")) is not None:
        mode = _known(_SWITCH, "ssl", switch)
    for name in ("sslmode", "ssl_mode"):
        if name in given:
            mode = _known(_MODES, name, given[name])
    authority = given.get("sslrootcert") or given.get("ssl_ca")
    if authority is None or authority == "system":
        return DatabaseTls(mode)
    if not authority.lstrip().startswith(_BEGIN):
        raise ValueError(
            "sslrootcert holds the certificate itself (PEM, percent-encoded), or system; files of this server "
            "cannot be named"
        )
    return DatabaseTls("verify-full" if mode == "prefer" else mode, authority)


def check_tls(connection: str) -> None:
    """Refuse a connection string whose encryption is not understood: `ValueError` with a sentence."""
    tls_of(dict(parse_qsl(urlsplit(connection).query)))


def _known(words: Mapping[str, Mode], name: str, value: str) -> Mode:
    found = words.get(value.lower().replace("_", "-"))
    if found is None:
        raise ValueError(f"{name} is one of {', '.join(words)}")
    return found
