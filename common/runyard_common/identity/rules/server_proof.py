"""How a server proves to a command on its machine that it is the one of a home folder. Pure.

The command sends a number it made up; the server signs that and the port it listens on with a key that only
processes with this home can read. A program that took the port cannot sign, nor pass on what the true server signs,
which listens on another port.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

#: Header of the request: 16 to 64 hexadecimal digits.
CHALLENGE: Final = "Runyard-Challenge"
#: Header of the answer: `port:signature`.
PROOF: Final = "Runyard-Proof"
#: The key's file in the home.
KEY_FILE: Final = "instance.key"
_CHALLENGE = re.compile("[0-9a-f]{16,64}")


def well_formed(challenge: str) -> bool:
    """Whether this is something a command would ask."""
    return _CHALLENGE.fullmatch(challenge) is not None


def proof(key: str, challenge: str, port: int) -> str:
    """The header's value."""
    text = f"runyard api\n{challenge}\n{port}".encode()
    return f"{port}:{hmac.new(key.encode(), text, hashlib.sha256).hexdigest()}"


def holds(value: str | None, key: str, challenge: str, port: int | None) -> bool:
    """Whether a header's value proves it. `port`: the one the server must listen on; None where a proxy is between."""
    named = (value or "").partition(":")[0]
    if not named.isdecimal() or (port is not None and int(named) != port):
        return False
    return hmac.compare_digest((value or "").encode(), proof(key, challenge, int(named)).encode())
