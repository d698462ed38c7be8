"""What reaches the caller: webhook endpoints and the delivery outbox."""

from __future__ import annotations

from sqlalchemy import Index

from runyard_common.database import columns as c


class Endpoint(c.Table):
    """A webhook of an organisation."""

    __tablename__ = "endpoints"
    __table_args__ = (Index("ix_endpoints_org", "org_id"),)

    id = c.key()
    org_id = c.ref()
    application_id = c.ref(nullable=True)
    style = c.text(length=16)  # the payload's shape: native, or an API surface
    url = c.text(length=2048)
    events = c.json()  # names, or ["*"]
    agent_id = c.ref(nullable=True)
    payload_mode = c.text(length=16)  # full, summary
    secret = c.blob()  # encrypted
    old_secret = c.blob()  # encrypted; still signs until it expires
    old_secret_until = c.instant(nullable=True)
    active = c.boolean(default=True)
    disabled_reason = c.text(nullable=True)
    failing_since = c.instant(nullable=True)
    max_parallel = c.integer(10)
    max_per_second = c.real(default=100.0)
    paced_until = c.instant(nullable=True)  # when the next call may begin, by max_per_second
    meta = c.json()
    created_at = c.instant()
    updated_at = c.instant()


class Callback(c.Table):
    """Where a run's own events go. Separate from the task: its headers outlive the task's other credentials."""

    __tablename__ = "callbacks"

    task_id = c.key()
    org_id = c.ref()
    url = c.text(length=2048)
    headers = c.blob()  # encrypted
    active = c.boolean(default=True)  # false once the receiver answered 410
    created_at = c.instant()


class Delivery(c.Table):
    """One event on its way to one receiver: written with the state change it reports, kept until delivered or dead."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(
            "ix_deliveries_due",
            "receiver",
            "next_at",
            **c.where("state = 'pending'"),
        ),
        Index(
            "ix_deliveries_leased",
            "receiver",
            **c.where("lease_owner IS NOT NULL"),
        ),
        Index(
            "ix_deliveries_dead",
            "org_id",
            "created_at",
            **c.where("state = 'dead'"),
        ),
        Index(
            "ix_deliveries_order",
            "order_key",
            "order_seq",
            **c.where("state = 'pending'"),
        ),
        Index("ix_deliveries_endpoint", "endpoint_id", "created_at"),
        Index("ix_deliveries_task", "task_id", "created_at"),
        Index("ix_deliveries_org", "org_id", "created_at"),
        Index("ix_deliveries_type", "org_id", "event_type", "created_at"),
    )

    id = c.key()
    org_id = c.ref()
    endpoint_id = c.ref(nullable=True)  # null: the run's own callback
    receiver = c.ref()  # whose limits it counts against: the endpoint, or a host of an organisation
    task_id = c.ref(nullable=True)
    event_id = c.ref()  # stable over attempts: the webhook-id
    event_type = c.text(length=64)
    order_key = c.text(length=140)  # deliveries of one key go out one after another
    order_seq = c.integer()
    host = c.text(length=255)
    url = c.text(length=2048)
    body = c.text()  # with placeholders for answer links, which exist only on the way out
    state = c.text(length=16)  # pending, success, dead
    attempt = c.integer()
    next_at = c.instant()
    lease_owner = c.ref(nullable=True)
    lease_until = c.instant(nullable=True)
    status_code = c.integer32(nullable=True)
    latency_ms = c.integer32(nullable=True)
    error = c.text(nullable=True)
    answer = c.text(nullable=True)  # first bytes of the receiver's answer
    # [{attempt, at, status_code, latency_ms, error}], the newest last: what came of its attempts
    attempts = c.json()
    created_at = c.instant()
    updated_at = c.instant()
