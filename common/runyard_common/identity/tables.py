"""Who may call: organisations, people, keys, and what they changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from runyard_common.database import columns as c


class Organisation(SQLModel, table=True):
    """A tenant: it sees only its own."""

    __tablename__ = "organisations"

    id: str = c.key()
    name: str = c.text(length=200)
    weight: float = Field(default=1.0)  # share of the workers, relative to the other organisations
    active: bool = Field(default=True)
    settings: Any = c.json()  # retention, api version pin, schedule cap …
    balance_micros: int | None = Field(
        default=None, sa_type=BigInteger
    )  # prepaid money left, millionths of a USD; null = no quota
    created_at: float = c.instant()


class User(SQLModel, table=True):
    """A person who signs in to the console."""

    __tablename__ = "users"

    id: str = c.key()
    email: str = c.text(length=320, unique=True)
    name: str = c.text(length=200)
    password_hash: str | None = c.text(nullable=True)
    must_change_password: bool = c.flag()  # another person chose it: it opens nothing but its change
    created_at: float = c.instant()


class Member(SQLModel, table=True):
    """A person's role in an organisation."""

    __tablename__ = "members"
    __table_args__ = (Index("ix_members_user", "user_id"),)

    org_id: str = c.key()
    user_id: str = c.key()
    role: str = c.text(length=16)  # owner, admin, member, viewer
    created_at: float = c.instant()


class Login(SQLModel, table=True):
    """A signed-in console or cookie session; only the hash of its token is kept."""

    __tablename__ = "logins"
    __table_args__ = (Index("ix_logins_user", "user_id"), Index("ix_logins_expires", "expires_at"))

    token_hash: str = c.key()
    user_id: str = c.ref()
    csrf: str = c.text(length=64)
    created_at: float = c.instant()
    last_used_at: float | None = c.instant(nullable=True)
    expires_at: float = c.instant()
    address: str | None = c.text(nullable=True, length=64)  # it was begun from
    agent: str | None = c.text(nullable=True, length=300)  # the browser's own name
    method: str | None = c.text(nullable=True, length=16)  # oidc by a provider; null by password


class LinkedIdentity(SQLModel, table=True):
    """A subject of a provider of single sign-on, and the account that it opens."""

    __tablename__ = "identities"
    __table_args__ = (Index("ix_identities_user", "user_id"),)

    id: str = c.key()  # SHA-256 of issuer and subject, hex
    issuer: str = c.text()
    subject: str = c.text(length=255)
    user_id: str = c.ref()
    created_at: float = c.instant()


class SecondFactor(SQLModel, table=True):
    """A person's authenticator (TOTP); it counts once it is confirmed."""

    __tablename__ = "second_factors"

    user_id: str = c.key()
    secret: bytes = c.blob(nullable=False)  # sealed
    last_step: int = c.integer(-1)  # of the last code used: none of it or of an earlier one counts again
    confirmed_at: float | None = c.instant(nullable=True)
    created_at: float = c.instant()


class RecoveryCode(SQLModel, table=True):
    """A code that replaces a person's authenticator once; only its hash is kept."""

    __tablename__ = "recovery_codes"

    user_id: str = c.key()
    code_hash: str = c.key()
    created_at: float = c.instant()


class Invitation(SQLModel, table=True):
    """A place in an organisation that waits for a person; only the hash of its one-time link is kept."""

    __tablename__ = "invitations"
    __table_args__ = (
        Index("ix_invitations_org", "org_id", "id"),
        Index("ix_invitations_expires", "expires_at"),
    )

    id: str = c.key()
    org_id: str = c.ref()
    email: str = c.text(length=320)
    role: str = c.text(length=16)
    token_hash: str = c.text(length=64, unique=True)
    created_by: str = c.text(length=128)
    created_at: float = c.instant()
    expires_at: float = c.instant()


class ApiKey(SQLModel, table=True):
    """A key by which programs call."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_org", "org_id"),)

    id: str = c.key()
    org_id: str = c.ref()
    name: str = c.text(length=200)
    prefix: str = c.text(length=16)  # the first characters, to recognise it by
    key_hash: str = c.text(length=64, unique=True)  # SHA-256 of the whole key, hex
    role: str = c.text(length=16)
    scopes: Any = c.json()  # list of resource:action, or null for everything the role may
    created_by: str | None = c.ref(nullable=True)
    person_id: str | None = c.ref(nullable=True)  # whose role bounds it: the person behind its maker, if any
    application_id: str | None = c.ref(nullable=True)
    created_at: float = c.instant()
    expires_at: float | None = c.instant(nullable=True)
    revoked_at: float | None = c.instant(nullable=True)
    last_used_at: float | None = c.instant(nullable=True)


class Application(SQLModel, table=True):
    """A caller's application, whose end-users are its own."""

    __tablename__ = "applications"
    __table_args__ = (Index("ix_applications_org", "org_id"),)

    id: str = c.key()
    org_id: str = c.ref()
    name: str = c.text(length=100)
    is_default: bool = Field(default=False)
    settings: Any = c.json()
    created_by: str | None = c.ref(nullable=True)
    created_at: float = c.instant()
    updated_at: float = c.instant()


class EndUser(SQLModel, table=True):
    """A person on whose behalf an application runs agents."""

    __tablename__ = "end_users"
    __table_args__ = (
        Index("ix_end_users_org", "org_id", "created_at"),
        Index("ux_end_users_external", "application_id", "external_id", unique=True),
    )

    id: str = c.key()
    org_id: str = c.ref()
    application_id: str = c.ref()
    name: str | None = c.text(nullable=True, length=200)
    email: str | None = c.text(nullable=True, length=320)
    external_id: str | None = c.text(nullable=True, length=200)
    meta: Any = c.json()
    created_at: float = c.instant()
    updated_at: float = c.instant()


class Audit(SQLModel, table=True):
    """Who changed what."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_org", "org_id", "at"), Index("ix_audit_page", "org_id", "id"))

    id: str = c.key()
    org_id: str = c.ref()
    actor: str = c.text(length=128)  # key:<id>, user:<id>, jwt:<sub>, system, operator
    front: str | None = c.text(
        nullable=True, length=16
    )  # the contract it came by; null from inside or the CLI
    action: str = c.text(length=64)  # noun.verb
    object_id: str = c.text(length=200)
    data: Any = c.json()
    at: float = c.instant()


class Idempotency(SQLModel, table=True):
    """A creating request by its Idempotency-Key, and the answer it got."""

    __tablename__ = "idempotency"
    __table_args__ = (
        Index("ix_idempotency_expires", "expires_at"),
        Index("ix_idempotency_org", "org_id", "size"),
    )

    org_id: str = c.key()
    key: str = c.text(length=255, primary_key=True)
    body_hash: str = c.text(length=64)
    owner: str = c.text(length=64)  # who works on it, so that a late first request cannot overwrite a second
    lease_until: float | None = c.instant(nullable=True)  # null once the answer is stored
    status: int | None = Field(default=None)
    headers: Any = c.json()
    body: bytes | None = c.blob()
    size: int = c.counter()  # bytes of the body
    created_at: float = c.instant()
    expires_at: float = c.instant()
