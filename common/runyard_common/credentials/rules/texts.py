"""Credentials: by the name of their field, and inside texts. Pure, linear in the text.

Texts are URLs, lines of headers, connection strings and options of commands.
Prose is not searched: what is found has the form in which programs pass credentials on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

#: Fields whose name, without its separators and a number at its end, ends so hold a credential, or only credentials.
_ENDINGS: Final = (
    "password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "accesstokens",
    "refreshtokens", "credential", "credentials", "auth", "authorization", "cookie", "cookies", "apikey", "apikeys",
    "accesskey", "accesskeys", "secretkey", "secretkeys", "privatekey", "privatekeys", "signingkey", "encryptionkey",
    "accountkey", "sharedkey", "masterkey", "subscriptionkey", "functionskey", "webhookkey", "authkey", "saskey",
    "keyid", "connectionstring", "bearer", "jwt", "headers", "signature",
)  # fmt: skip
_NAMES: Final = frozenset({"pass", "pw", "dsn", "env", "environment", "tokens", "sig", "sas", "hmac"})
#: These mean a credential among the parameters of a URL alone.
_IN_QUERIES: Final = frozenset(
    {"key", "code", "sessionid", "jsessionid", "phpsessid", "sid", "ticket", "otp"}
)
_SEPARATORS: Final = re.compile(r"[^a-z0-9]")


def joined(name: str) -> str:
    """A name in lower case, without its separators."""
    return _SEPARATORS.sub("", name.lower())


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a credential."""
    plain = joined(name).rstrip("0123456789")
    return plain.endswith(_ENDINGS) or plain in _NAMES


def is_secret_parameter(name: str) -> bool:
    """Whether a parameter of a URL of this name holds a credential."""
    return is_secret(name) or joined(name) in _IN_QUERIES


#: The placeholder of a credential.
SEALED: Final = "********"

_URLS: Final = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>]+")
#: `Authorization: Bearer …`, and an option of a command, `--token=…`.
_LINE: Final = re.compile(r"([?-]{0,2}([A-Za-z][A-Za-z0-9_-]{0,63})(?::[ \t]*|=))(\S.*)")
#: A scheme of authorization with what follows it, a digit in it: "Basic membership" is none.
_SCHEME: Final = re.compile(
    r"((?:Bearer|Basic|Token|ApiKey|Digest)[ \t]+)(?=[^\s]*[0-9])[^\s]{8,}", re.IGNORECASE
)
_LONGEST: Final = 65_536


def masked(text: str) -> str:
    """The text with `SEALED` for each credential in it; the text itself where there is none."""
    if "://" in text:
        text = _URLS.sub(lambda found: _masked_url(found[0]), text)
    if len(text) > _LONGEST or "\n" in text or "://" in text:
        return text
    if (line := _LINE.fullmatch(text)) is not None and is_secret(line[2]):
        return line[1] + SEALED
    if (scheme := _SCHEME.fullmatch(text)) is not None:
        return scheme[1] + SEALED
    for separator, judge in (("&", is_secret_parameter), (";", is_secret), (" ", is_secret)):
        if separator in text:
            return _masked_pairs(text, separator, judge)
    return text


def is_placeholder(text: str) -> bool:
    """Whether `SEALED` in this text is where `masked` would put it."""
    return SEALED in text and masked(text.replace(SEALED, "x1x1x1x1")) == text


def _masked_pairs(text: str, separator: str, judge: Callable[[str], bool]) -> str:
    """`a=b;c=d` with its credentials masked, where all parts are of this form."""
    parts = text.split(separator)
    if not all("=" in part or not part.strip() for part in parts):
        return text
    return separator.join(_masked_pair(part, judge) for part in parts)


def _masked_pair(pair: str, judge: Callable[[str], bool]) -> str:
    name, _, value = pair.partition("=")
    return f"{name}={SEALED}" if value.strip() and judge(name) else pair


def _masked_url(url: str) -> str:
    """The URL without its user and password, and without what its query and fragment call a key or token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    user, at, host = parts.netloc.rpartition("@")
    hidden = f"{SEALED}{at}{host}" if user else parts.netloc
    query, fragment = _masked_query(parts.query), _masked_query(parts.fragment)
    if (hidden, query, fragment) == (parts.netloc, parts.query, parts.fragment):
        return url
    return urlunsplit((parts.scheme, hidden, parts.path, query, fragment))


def _masked_query(query: str) -> str:
    if "=" not in query:
        return query
    pairs = parse_qsl(query, keep_blank_values=True)
    safe = [(name, SEALED if value and is_secret_parameter(name) else value) for name, value in pairs]
    return urlencode(safe, safe="*", quote_via=quote) if safe != pairs else query
