"""Passwords: what is kept of one is a scrypt hash that names its own cost (RFC 7914). Pure.

A hash reads ``scrypt$<log2 n>$<r>$<p>$<salt>$<hash>``, so that the cost can be raised and old hashes still
verify. n = 2^15, r = 8, p = 3 takes 32 MB and is one of the settings OWASP's password storage sheet names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Iterable
from typing import Final

from common.domain.errors import InvalidRequest

SHORTEST, LONGEST = 10, 256
_LOG_N, _R, _P = 15, 8, 3
_MOST_MEMORY: Final = 128 * 2**20


#: What guessing takes at least, on zxcvbn's scale of 0 to 4: 3 is more than 10^8 tries.
_LEAST_SCORE: Final = 3
#: Characters that are judged: the estimate takes longer than linear time, and so many good ones are enough.
_JUDGED: Final = 72
_PRODUCT: Final = "runyard"
#: A shorter part of an address may stand in a good password by chance.
_SHORTEST_NAME: Final = 4


def check(password: str, field: str = "password", email: str = "", about: Iterable[str] = ()) -> None:
    """Refuse a password that is too short or too long, easily guessed, or names its person or this product.

    `about` are further words that others know of the person, such as their name. Common passwords, keyboard rows,
    repetitions and dates are found by zxcvbn. Takes up to a fifth of a second: call it on a thread.
    Error: `InvalidRequest` weak_password. Lengths are in characters.
    """
    if not SHORTEST <= len(password) <= LONGEST or len(set(password)) == 1:
        raise _weak(f"A password has {SHORTEST} to {LONGEST} characters, not all the same.", field)
    typed = unicodedata.normalize("NFKC", password).casefold()
    local = email.casefold().partition("@")[0].partition("+")[0]
    if len(local) >= _SHORTEST_NAME and local in typed:
        raise _weak("A password does not contain your own e-mail address.", field)
    if _PRODUCT in typed:
        raise _weak("A password does not contain the name Runyard.", field)
    _check_guesses(password, field, [email, *about])


def _check_guesses(password: str, field: str, about: Iterable[str]) -> None:
    from zxcvbn import zxcvbn  # its word lists take a tenth of a second to load

    known = [word for text in about for word in re.split(r"[\W_]+", text.casefold()) if len(word) > 2]
    found = zxcvbn(password[:_JUDGED], user_inputs=[*known, _PRODUCT])
    if found["score"] < _LEAST_SCORE:
        cause = str(found["feedback"]["warning"]).rstrip(".").replace("\u2019", "'")
        raise _weak(
            "This password is guessed too easily" + (f" ({cause.lower()})" if cause else "")
            + ". Use several words that do not belong together, or let a password manager make one.",
            field,
        )  # fmt: skip


def _weak(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, code="weak_password", field=field)


def hashed(password: str) -> str:
    """What is kept of a password. Takes about a tenth of a second and 32 MB: call it on a thread."""
    salt = secrets.token_bytes(16)
    parts = (_LOG_N, _R, _P, _text(salt), _text(_derive(password, salt, _LOG_N, _R, _P)))
    return "scrypt$" + "$".join(str(part) for part in parts)


def matches(password: str, kept: str | None) -> bool:
    """Whether this is the password that was hashed. No hash at all takes as long and is never matched."""
    _, log_n, r, p, salt, digest = (kept or _NOBODY).split("$")
    found = _derive(password, base64.b64decode(salt), int(log_n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(digest)) and kept is not None


def outdated(kept: str) -> bool:
    """Whether a hash was made at another cost than today's."""
    return not kept.startswith(f"scrypt${_LOG_N}${_R}${_P}$")


def _derive(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    # The same text typed on different keyboards is the same password (RFC 8265 §4 asks for NFC).
    typed = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(typed, salt=salt, n=2**log_n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


#: Matches nothing: what an unknown person's password is compared with.
_NOBODY: Final = f"scrypt${_LOG_N}${_R}${_P}${_text(bytes(16))}${_text(bytes(32))}"
