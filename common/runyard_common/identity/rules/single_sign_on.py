"""Single sign-on: who a provider's ID token (OpenID Connect Core 1.0) speaks of, and whether they may come in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runyard_common.identity.rules import emails
from runyard_common.identity.rules.roles import Role
from runyard_common.values.errors import ConfigurationError, Forbidden, InvalidRequest

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as the provider knows them: `subject` never changes, `email` is verified by the provider."""

    issuer: str
    subject: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class SignOnRules:
    """The operator's rules: whom the provider may send, and what becomes of who has no account."""

    issuer: str
    client_id: str
    domains: frozenset[str]
    claims: Mapping[str, frozenset[str]]
    create_accounts: bool
    organisation: str
    role: Role

    @staticmethod
    def of(
        issuer: str, client_id: str, domains: str, claims: str, create: bool, organisation: str, role: str
    ) -> SignOnRules:
        """From settings. `domains` is comma-separated; so is `claims`, of name=value, one of each name is enough.

        Raises `ConfigurationError` for what cannot be meant, and for accounts for all whom the provider knows.
        """
        _check_issuer(issuer)
        if not client_id:
            raise _wrong("RUNYARD_OIDC_CLIENT_ID", "is needed with RUNYARD_OIDC_ISSUER")
        found: dict[str, set[str]] = {}
        for part in filter(None, (part.strip() for part in claims.split(","))):
            name, equals, value = part.partition("=")
            if not (name and equals and value):
                raise _wrong("RUNYARD_OIDC_REQUIRED_CLAIMS", "is written name=value,name=value")
            found.setdefault(name, set()).add(value)
        allowed = frozenset(part.strip().lower().lstrip("@") for part in domains.split(",") if part.strip())
        if create and not (allowed or found):
            raise _wrong(
                "RUNYARD_OIDC_CREATE_ACCOUNTS",
                "needs RUNYARD_OIDC_ALLOWED_DOMAINS or RUNYARD_OIDC_REQUIRED_CLAIMS: else all whom the provider "
                "knows would get an account",
            )
        kept = {name: frozenset(values) for name, values in found.items()}
        try:
            return SignOnRules(issuer, client_id, allowed, kept, create, organisation, Role(role))
        except ValueError:
            raise _wrong("RUNYARD_OIDC_ROLE", f"is one of {', '.join(Role)}") from None

    def identity(self, claims: Mapping[str, Any]) -> Identity:
        """Who the claims of a verified ID token speak of.

        Errors: `Forbidden` email_not_verified, domain_not_allowed, claim_not_allowed.
        """
        subject, address = claims.get("sub"), claims.get("email")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise Forbidden("The provider names no subject.", code="sign_on_failed")
        if claims.get("email_verified") is not True or not isinstance(address, str):
            raise Forbidden(
                "The provider has not verified your e-mail address; verify it there.",
                code="email_not_verified",
            )
        try:
            email = emails.normalised(address)
        except InvalidRequest:
            raise Forbidden("The provider names no e-mail address.", code="email_not_verified") from None
        if self.domains and email.rpartition("@")[2] not in self.domains:
            raise Forbidden("Addresses of your domain are not let in here.", code="domain_not_allowed")
        for name, wanted in self.claims.items():
            if wanted.isdisjoint(_texts(claims.get(name))):
                raise Forbidden(
                    "The provider does not list you among those who are let in here.",
                    code="claim_not_allowed",
                )
        title = claims.get("name")
        shown = title.strip()[:200] if isinstance(title, str) and title.isprintable() else ""
        return Identity(self.issuer, subject, email, shown)


def _texts(value: Any) -> set[str]:
    """A claim's values: of a text itself, of a list its texts."""
    values = value if isinstance(value, list) else [value]
    return {each for each in values if isinstance(each, str)}


def failed() -> Forbidden:
    """The answer to a sign-on that does not count."""
    return Forbidden("The single sign-on did not succeed; begin it again.", code="sign_on_failed")


def _check_issuer(issuer: str) -> None:
    parts = urlsplit(issuer)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not safe or not parts.netloc or parts.query or parts.fragment:
        raise _wrong(
            "RUNYARD_OIDC_ISSUER", "is an https:// address without ? and #, as the provider spells it"
        )


def _wrong(setting: str, message: str) -> ConfigurationError:
    return ConfigurationError(f"{setting} {message}.", field=setting)
