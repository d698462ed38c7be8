"""What the deliverer alone can open: signing secrets, callers' headers, the tokens of answer links."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from typing import Any

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.webhooks.rules.signing import new_secret


class Keys:
    """Opens sealed values, remembering the secrets of the busiest endpoints; makes answer links."""

    def __init__(self, sealer: Sealer, base_url: str) -> None:
        """`sealer` has the installation's keys (RUNYARD_SECRET_KEY), `base_url` is where callers reach it."""
        self._sealer = sealer
        self._base_url = base_url
        self.open_secret = functools.lru_cache(maxsize=256)(self._open_secret)

    def _open_secret(self, sealed: bytes) -> str:
        return str(self._sealer.open(sealed))

    def open_headers(self, sealed: bytes | None) -> dict[str, str]:
        """A caller's own headers."""
        opened: Any = self._sealer.open(sealed) if sealed else {}
        return {str(name): str(value) for name, value in opened.items()}

    def new_secret(self) -> bytes:
        """A fresh signing secret, sealed."""
        return self._sealer.seal(new_secret())

    def link_tokens(self, event_id: str, question_id: str) -> list[str]:
        """The tokens of the link to a question in an event, of each key one: the first is for a new link.

        Derived, not random: the body is the same at every attempt, and nothing stored gives the token away. An attempt
        after the key has changed finds the link that an earlier one made by the old key.
        """
        return [_token(key, f"{event_id}/{question_id}") for key in self._sealer.keys]

    def link(self, token: str) -> str:
        """Where the link with this token leads."""
        return f"{self._base_url}/answer/{token}"


def _token(secret_key: str, name: str) -> str:
    key = hashlib.sha256(f"runyard answer links\n{secret_key}".encode()).digest()
    return base64.urlsafe_b64encode(hmac.digest(key, name.encode(), "sha256")).decode().rstrip("=")
