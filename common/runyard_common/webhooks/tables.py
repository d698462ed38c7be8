"""What reaches the caller: webhook endpoints and the delivery outbox."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from runyard_common.database import columns as c


class Endpoint(SQLModel, table=True):
    """A webhook of an organisation."""

    __tablename__ = "endpoints"
    __table_args__ = (Index("ix_endpoints_org", "org_id"),)

    id: str = c.key()
    org_id: str = c.ref()
    application_id: str | None = c.ref(nullable=True)
    style: str = c.text(length=16)  # the payload's shape: native, or an API surface
    url: str = c.text(length=2048)
    events: Any = c.json()  # names, or ["*"]
    agent_id: str | None = c.ref(nullable=True)
    payload_mode: str = c.text(length=16)  # full, summary
    secret: bytes | None = c.blob()  # encrypted
    old_secret: bytes | None = c.blob()  # encrypted; still signs until it expires
    old_secret_until: float | None = c.instant(nullable=True)
    active: bool = Field(default=True)
    disabled_reason: str | None = c.text(nullable=True)
    failing_since: float | None = c.instant(nullable=True)
    max_parallel: int = c.integer(10)
    max_per_second: float = Field(default=100.0)
    paced_until: float | None = c.instant(nullable=True)  # when the next call may begin, by max_per_second
    meta: Any = c.json()
    created_at: float = c.instant()
    updated_at: float = c.instant()


class Callback(SQLModel, table=True):
    """Where a run's own events go. Kept beside the task: its headers outlive the task's other credentials."""

    __tablename__ = "callbacks"

    task_id: str = c.key()
    org_id: str = c.ref()
    url: str = c.text(length=2048)
    headers: bytes | None = c.blob()  # encrypted
    active: bool = Field(default=True)  # false once the receiver answered 410
    created_at: float = c.instant()


class Delivery(SQLModel, table=True):
    """One promised callback: written with the state change it tells of, kept until delivered or visibly dead."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(
            "ix_deliveries_due",
            "receiver",
            "next_at",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
        Index(
            "ix_deliveries_leased",
            "receiver",
            postgresql_where=text("lease_owner IS NOT NULL"),
            sqlite_where=text("lease_owner IS NOT NULL"),
        ),
        Index(
            "ix_deliveries_dead",
            "org_id",
            "created_at",
            postgresql_where=text("state = 'dead'"),
            sqlite_where=text("state = 'dead'"),
        ),
        Index(
            "ix_deliveries_order",
            "order_key",
            "order_seq",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
        Index("ix_deliveries_endpoint", "endpoint_id", "created_at"),
        Index("ix_deliveries_task", "task_id", "created_at"),
        Index("ix_deliveries_org", "org_id", "created_at"),
    )

    id: str = c.key()
    org_id: str = c.ref()
    endpoint_id: str | None = c.ref(nullable=True)  # null: the run's own callback
    receiver: str = c.ref()  # whose limits it counts against: the endpoint, or a host of an organisation
    task_id: str | None = c.ref(nullable=True)
    event_id: str = c.ref()  # stable over attempts: the webhook-id
    event_type: str = c.text(length=64)
    order_key: str = c.text(length=140)  # deliveries of one key go out one after another
    order_seq: int = c.integer()
    host: str = c.text(length=255)
    url: str = c.text(length=2048)
    body: str = c.text()  # with placeholders for answer links, which exist only on the way out
    state: str = c.text(length=16)  # pending, success, dead
    attempt: int = c.integer()
    next_at: float = c.instant()
    lease_owner: str | None = c.ref(nullable=True)
    lease_until: float | None = c.instant(nullable=True)
    status_code: int | None = Field(default=None)
    latency_ms: int | None = Field(default=None)
    error: str | None = c.text(nullable=True)
    answer: str | None = c.text(nullable=True)  # first bytes of the receiver's answer
    created_at: float = c.instant()
    updated_at: float = c.instant()
