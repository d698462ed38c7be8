"""Sealing: secrets at rest are encrypted with the installation's key (Fernet: AES-128-CBC, HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import orjson

from runyard_common.values.errors import ConfigurationError, RunyardError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

#: How every Fernet token begins: version 128, and a time whose first bytes are 0.
_VERSION: Final = b"gAAAAA"
_SHORTEST: Final = 16


class SealBroken(RunyardError):
    """A stored secret cannot be opened: it was sealed with another RUNYARD_SECRET_KEY, or was damaged."""

    code = "seal_broken"


#: The text of a key, or of several, as it is now; None where it cannot be had.
PresentKey = Callable[[], str | None]


class Sealer:
    """Seals and opens JSON values. Safe to share between threads."""

    def __init__(self, key: str, present: PresentKey | None = None) -> None:
        """`key` is any secret of 16 characters or more; several, comma-separated, when it is being replaced:
        the first seals, all open.

        `present` gives the text where that may change while the process runs. Keys that are named no more
        still open in this process: it may have values in its memory that they sealed.

        Raises `ConfigurationError` for a key that is too short.
        """
        self._keys = tuple(parted(key))
        self._text = key
        self._present = present
        self._made: tuple[tuple[str, ...], list[Fernet]] | None = None

    @property
    def keys(self) -> Sequence[str]:
        """All keys that open here; the first seals."""
        self._look()
        return self._keys

    def _fernets(self) -> list[Fernet]:
        keys = self._keys
        if self._made is None or self._made[0] != keys:
            from cryptography.fernet import Fernet  # takes long to load, and many a process seals nothing

            self._made = keys, [Fernet(_derived(part)) for part in keys]
        return self._made[1]

    def _look(self) -> None:
        """Take over keys that have changed. A text that is no key changes nothing."""
        text = self._present() if self._present is not None else None
        if text is None or text == self._text:
            return
        with suppress(ConfigurationError):
            self._keys = tuple(dict.fromkeys([*parted(text), *self._keys]))
            self._text = text  # after the keys: another thread must not take the old ones for these

    def seal(self, value: Any) -> bytes:
        """`value`, as JSON, encrypted."""
        self._look()
        return self._fernets()[0].encrypt(orjson.dumps(value))

    def open(self, sealed: bytes) -> Any:
        """The value that was sealed; `SealBroken` when this key did not seal it."""
        from cryptography.fernet import InvalidToken, MultiFernet

        fernets = self._fernets()
        try:
            return orjson.loads(MultiFernet(fernets).decrypt(bytes(sealed)))
        except InvalidToken:
            self._look()
            if self._fernets() is not fernets:
                return self.open(sealed)
            raise SealBroken from None

    def renew(self, sealed: bytes) -> bytes | None:
        """The same value sealed with the first key; None when it is already, or is no sealed value.

        `SealBroken` when no key opens it.
        """
        if not sealed.startswith(_VERSION):
            return None
        from cryptography.fernet import InvalidToken, MultiFernet

        try:
            self._fernets()[0].decrypt(sealed)
        except InvalidToken:
            pass
        else:
            return None
        try:
            return MultiFernet(self._fernets()).rotate(sealed)
        except InvalidToken:
            raise SealBroken from None


def parted(key: str) -> list[str]:
    """The keys in a text. Raises `ConfigurationError` for one that is too short."""
    keys = [part.strip() for part in key.split(",") if part.strip()]
    if not keys or any(len(part) < _SHORTEST for part in keys):
        raise ConfigurationError(
            f"RUNYARD_SECRET_KEY needs {_SHORTEST} characters or more in each of its keys; leave it empty to have one "
            "made in the home.",
            field="RUNYARD_SECRET_KEY",
        )
    return keys


def new_key() -> str:
    """A fresh key of 32 random bytes."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def _derived(key: str) -> bytes:
    """A Fernet key as it is; any other secret hashed to one (a random key needs no stretching)."""
    try:
        if len(base64.urlsafe_b64decode(key)) == 32:
            return key.encode()
    except ValueError:
        pass
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())
