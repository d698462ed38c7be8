"""Who may call: organisations, people, keys, and what they changed."""

from __future__ import annotations

from sqlalchemy import Column, Index, String

from runyard_common.database import columns as c


class Organisation(c.Table):
    """A tenant: it sees only its own."""

    __tablename__ = "organisations"

    id = c.key()
    name = c.text(length=200)
    weight = c.real(default=1.0)  # share of the workers, relative to the other organisations
    active = c.boolean(default=True)
    settings = c.json()  # retention, api version pin, schedule cap …
    balance_micros = c.integer(default=None)  # prepaid money left, millionths of a USD; null = no quota
    created_at = c.instant()


class ConfigVersion(c.Table):
    """A number that every change of what an organisation has configured raises, by triggers (decision 0038)."""

    __tablename__ = "config_versions"

    scope = c.key()  # an organisation's id; * for what concerns every organisation
    number = c.integer()


class User(c.Table):
    """A person who signs in to the console."""

    __tablename__ = "users"

    id = c.key()
    email = c.text(length=320, unique=True)
    name = c.text(length=200)
    password_hash = c.text(nullable=True)
    must_change_password = c.flag()  # another person chose it: it opens nothing but its change
    created_at = c.instant()


class Member(c.Table):
    """A person's role in an organisation."""

    __tablename__ = "members"
    __table_args__ = (Index("ix_members_user", "user_id"),)

    org_id = c.key()
    user_id = c.key()
    role = c.text(length=16)  # owner, admin, member, viewer
    created_at = c.instant()


class Login(c.Table):
    """A signed-in console or cookie session; only the hash of its token is kept."""

    __tablename__ = "logins"
    __table_args__ = (Index("ix_logins_user", "user_id"), Index("ix_logins_expires", "expires_at"))

    token_hash = c.key()
    user_id = c.ref()
    csrf = c.text(length=64)
    created_at = c.instant()
    last_used_at = c.instant(nullable=True)
    expires_at = c.instant()
    address = c.text(nullable=True, length=64)  # it was begun from
    agent = c.text(nullable=True, length=300)  # the browser's own name
    method = c.text(nullable=True, length=16)  # oidc by a provider; null by password


class LinkedIdentity(c.Table):
    """A subject of a provider of single sign-on, and the account that it opens."""

    __tablename__ = "identities"
    __table_args__ = (Index("ix_identities_user", "user_id"),)

    id = c.key()  # SHA-256 of issuer and subject, hex
    issuer = c.text()
    subject = c.text(length=255)
    user_id = c.ref()
    created_at = c.instant()


class SecondFactor(c.Table):
    """A person's authenticator (TOTP); it counts once it is confirmed."""

    __tablename__ = "second_factors"

    user_id = c.key()
    secret = c.blob(nullable=False)  # sealed
    last_step = c.integer(-1)  # of the last code used: none of it or of an earlier one counts again
    confirmed_at = c.instant(nullable=True)
    created_at = c.instant()


class RecoveryCode(c.Table):
    """A code that replaces a person's authenticator once; only its hash is kept."""

    __tablename__ = "recovery_codes"

    user_id = c.key()
    code_hash = c.key()
    created_at = c.instant()


class Invitation(c.Table):
    """A place in an organisation that waits for a person; only the hash of its one-time link is kept."""

    __tablename__ = "invitations"
    __table_args__ = (
        Index("ix_invitations_org", "org_id", "id"),
        Index("ix_invitations_expires", "expires_at"),
    )

    id = c.key()
    org_id = c.ref()
    email = c.text(length=320)
    role = c.text(length=16)
    token_hash = c.text(length=64, unique=True)
    created_by = c.text(length=128)
    created_at = c.instant()
    expires_at = c.instant()


class ApiKey(c.Table):
    """A key by which programs call."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_org", "org_id"),)

    id = c.key()
    org_id = c.ref()
    name = c.text(length=200)
    prefix = c.text(length=16)  # the first characters, to recognise it by
    key_hash = c.text(length=64, unique=True)  # SHA-256 of the whole key, hex
    role = c.text(length=16)
    scopes = c.json()  # list of resource:action, or null for everything the role may
    created_by = c.ref(nullable=True)
    person_id = c.ref(nullable=True)  # whose role bounds it: the person behind its maker, if any
    application_id = c.ref(nullable=True)
    created_at = c.instant()
    expires_at = c.instant(nullable=True)
    revoked_at = c.instant(nullable=True)
    last_used_at = c.instant(nullable=True)


class Secret(c.Table):
    """A secret of an organisation, which its agents read by name."""

    __tablename__ = "stored_secrets"

    org_id = Column(String(64), primary_key=True)
    name = c.text(length=100, primary_key=True)
    value = c.blob()  # sealed
    created_at = c.instant()
    updated_at = c.instant()
    updated_by = c.text(length=128)


class Application(c.Table):
    """A caller's application, whose end-users are its own."""

    __tablename__ = "applications"
    __table_args__ = (Index("ix_applications_org", "org_id"),)

    id = c.key()
    org_id = c.ref()
    name = c.text(length=100)
    is_default = c.boolean(default=False)
    settings = c.json()
    created_by = c.ref(nullable=True)
    created_at = c.instant()
    updated_at = c.instant()


class EndUser(c.Table):
    """A person on whose behalf an application runs agents."""

    __tablename__ = "end_users"
    __table_args__ = (
        Index("ix_end_users_org", "org_id", "created_at"),
        Index("ux_end_users_external", "application_id", "external_id", unique=True),
    )

    id = c.key()
    org_id = c.ref()
    application_id = c.ref()
    name = c.text(nullable=True, length=200)
    email = c.text(nullable=True, length=320)
    external_id = c.text(nullable=True, length=200)
    meta = c.json()
    created_at = c.instant()
    updated_at = c.instant()


class Audit(c.Table):
    """Who changed what."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_org", "org_id", "at"), Index("ix_audit_page", "org_id", "id"))

    id = c.key()
    org_id = c.ref()
    actor = c.text(length=128)  # key:<id>, user:<id>, jwt:<sub>, system, operator
    front = c.text(nullable=True, length=16)  # the contract it came by; null from inside or the CLI
    action = c.text(length=64)  # noun.verb
    object_id = c.text(length=200)
    data = c.json()
    at = c.instant()


class Idempotency(c.Table):
    """A creating request by its Idempotency-Key, and the answer it got."""

    __tablename__ = "idempotency"
    __table_args__ = (
        Index("ix_idempotency_expires", "expires_at"),
        Index("ix_idempotency_org", "org_id", "size"),
    )

    org_id = c.key()
    key = c.text(length=255, primary_key=True)
    body_hash = c.text(length=64)
    owner = c.text(length=64)  # who works on it, so that a late first request cannot overwrite a second
    lease_until = c.instant(nullable=True)  # null once the answer is stored
    status = c.integer32(nullable=True)
    headers = c.json()
    body = c.blob()
    size = c.counter()  # bytes of the body
    created_at = c.instant()
    expires_at = c.instant()
