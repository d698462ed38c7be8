"""Names of fields, query parameters and headers that hold credentials. Pure."""

from __future__ import annotations

import re
from typing import Final

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
