"""Passwords: what is kept of one is a scrypt hash that names its own cost (RFC 7914). Pure.

A hash reads ``scrypt$<log2 n>$<r>$<p>$<salt>$<hash>``, so that the cost can be raised and old hashes still
verify. n = 2^15, r = 8, p = 3 takes 32 MB and is one of the settings OWASP's password storage sheet names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import unicodedata
from collections.abc import Iterable
from typing import Final

from runyard_common.values.errors import InvalidRequest

SHORTEST, LONGEST = 10, 256
_LOG_N, _R, _P = 15, 8, 3
_MOST_MEMORY: Final = 128 * 2**20


#: What guessing takes at least, on zxcvbn's scale of 0 to 4: 3 is more than 10^8 tries.
_LEAST_SCORE: Final = 3
#: What guessing the words alone takes at least, as a power of ten: who guesses knows what is put around words.
_LEAST_OF_CORE: Final = 7.0
#: Characters that are judged: the estimate takes longer than linear time, and so many good ones are enough.
_JUDGED: Final = 72
#: Different characters that may replace letters (4 for a), of which the estimate tries every combination; behind so
#: many no more than the first characters are judged.
_SUBSTITUTES: Final = frozenset("4@8({[<369!1|0$5+7%2")
_MOST_SUBSTITUTES, _JUDGED_OF_MANY = 6, 16
_PRODUCT: Final = "runyard"
#: A shorter part of an address may be in a good password by chance.
_SHORTEST_NAME: Final = 4
#: The longest text of one word that is guessed with what is put around words: longer ones are several in one.
_LONGEST_WORD: Final = 11
#: What people put around a word: signs, up to two digits, a year, digits in a row, one digit again and again.
_DIGITS: Final = r"(?:(?<!\d)(?:\d{1,2}|(?:19|20)\d\d|0?1234?5?6?7?8?9?0?|(\d)\1+)(?!\d))"
_BEFORE: Final = re.compile(rf"^(?:[\W_]|{_DIGITS})")
_BEHIND: Final = re.compile(rf"(?:[\W_]|{_DIGITS})$")
_WORD: Final = re.compile(r"[^\W\d_]+")
_UNSPEAKABLE: Final = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}")


def check(password: str, field: str = "password", email: str = "", about: Iterable[str] = ()) -> None:
    """Refuse a password that is too short or too long, easily guessed, or names its person or this product.

    `about` are further words that others know of the person, such as their name and their organisations'. Common
    passwords, keyboard rows, repetitions and dates are found by zxcvbn; what it takes for random, a word with a year
    and signs around it, is found here, in every script that has capitals. Takes up to a third of a second: call it on
    a thread. Error: `InvalidRequest` weak_password. Lengths are in characters.
    """
    if not SHORTEST <= len(password) <= LONGEST or len(set(password)) == 1:
        raise _weak(f"A password has {SHORTEST} to {LONGEST} characters, not all the same.", field)
    normal = unicodedata.normalize("NFKC", password)
    typed = normal.casefold()
    local = email.casefold().partition("@")[0].partition("+")[0]
    if len(local) >= _SHORTEST_NAME and local in typed:
        raise _weak("A password does not contain your own e-mail address.", field)
    if _PRODUCT in typed:
        raise _weak("A password does not contain the name Runyard.", field)
    if (cause := _flaw(normal, [email, *about])) is not None:
        raise _weak(
            "This password is guessed too easily" + (f" ({cause})" if cause else "")
            + ". Use several words that do not belong together, or let a password manager make one.",
            field,
        )  # fmt: skip


def _flaw(password: str, about: Iterable[str]) -> str | None:
    """Why a password is guessed easily, "" where there is no word for it; None for one that is not."""
    score, warning, _ = _estimate(password)
    if score < _LEAST_SCORE:
        return warning
    rest = password
    for word in sorted({word for text in about for word in _WORD.findall(text) if len(word) > 2}, key=len)[
        ::-1
    ]:
        rest = re.sub(re.escape(word), "", rest, flags=re.IGNORECASE)
    core = _core(rest)
    if len(core) < _SHORTEST_NAME:
        return (
            "names that others know of you, with digits or signs" if rest != password else "digits and signs"
        )
    if _is_one_word(core):
        return "one word with a year, digits or signs around it"
    return (
        None
        if _estimate(core)[2] >= _LEAST_OF_CORE
        else "common words with a year, digits or signs around them"
    )


def _core(text: str) -> str:
    """The text without what people put before and behind words."""
    while (inner := _BEHIND.sub("", _BEFORE.sub("", text))) != text:
        text = inner
    return text


def _is_one_word(core: str) -> bool:
    """Whether this reads as one word, perhaps written again and again, with nothing but ornaments in between."""
    words = {word.casefold(): word for word in _WORD.findall(core)}
    if len(words) != 1 or any(_core(gap) for gap in _WORD.split(core)):
        return False
    (folded, word), *_ = words.items()
    shaped = word.islower() or word.isupper() or (word[:1].isupper() and word[1:].islower())
    return shaped and len(word) <= _LONGEST_WORD and _UNSPEAKABLE.search(folded) is None


def _estimate(password: str) -> tuple[int, str, float]:
    """zxcvbn's score, what it warns of, and the guesses of the parts it found, multiplied, as a power of ten."""
    from zxcvbn import zxcvbn  # its word lists take a tenth of a second to load

    found = zxcvbn(_judged(password))
    warning = str(found["feedback"]["warning"]).rstrip(".").replace("\u2019", "'").lower()
    return (
        int(found["score"]),
        warning,
        sum(math.log10(max(1, part["guesses"])) for part in found["sequence"]),
    )


def _judged(password: str) -> str:
    """The characters that are judged, so few that the estimate has an end."""
    seen: set[str] = set()
    for index, character in enumerate(password[:_JUDGED]):
        seen.update(_SUBSTITUTES.intersection(character))
        if len(seen) > _MOST_SUBSTITUTES:
            return password[: max(index, _JUDGED_OF_MANY)]
    return password[:_JUDGED]


def _weak(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, code="weak_password", field=field)


def hashed(password: str) -> str:
    """What is kept of a password. Takes about a tenth of a second and 32 MB: call it on a thread."""
    salt = secrets.token_bytes(16)
    parts = (_LOG_N, _R, _P, _text(salt), _text(_derive(password, salt, _LOG_N, _R, _P)))
    return "scrypt$" + "$".join(str(part) for part in parts)


def matches(password: str, kept: str | None) -> bool:
    """Whether this is the password that was hashed. No hash at all takes as long and is never matched."""
    _, log_n, r, p, salt, digest = (kept or _NO_HASH).split("$")
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
_NO_HASH: Final = f"scrypt${_LOG_N}${_R}${_P}${_text(bytes(16))}${_text(bytes(32))}"
