"""A shop's Celery app, its broker and results at SHOP_REDIS_URL."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from redis import Redis

app = Celery("shop", broker=os.environ["SHOP_REDIS_URL"], backend=os.environ["SHOP_REDIS_URL"])
app.conf.update(task_track_started=True, task_default_queue="shop", broker_connection_retry_on_startup=True)
PAID: list[str] = []


class CardRefused(Exception):
    """The bank refuses."""


@app.task(name="shop.pay")  # type: ignore[untyped-decorator]
def pay(order: str, amount: float = 1.0) -> dict[str, Any]:
    """Pay for an order."""
    PAID.append(order)
    return {"order": order, "paid": amount}


@app.task(name="shop.refuse")  # type: ignore[untyped-decorator]
def refuse(order: str) -> None:
    """Fail, as the bank does."""
    PAID.append(order)
    raise CardRefused(f"{order}: no money")


@app.task(name="shop.flaky", bind=True, max_retries=2, default_retry_delay=0)  # type: ignore[untyped-decorator]
def flaky(self: Any, order: str) -> int:
    """Succeed at the third try."""
    if self.request.retries < 2:
        raise self.retry()
    return int(self.request.retries)


@app.task(name="shop.count", bind=True)  # type: ignore[untyped-decorator]
def count(self: Any, of: int) -> int:
    """Report each half."""
    self.update_state(state="PROGRESS", meta={"current": 1, "total": of, "message": "half"})
    return of


@app.task(name="shop.deliver")  # type: ignore[untyped-decorator]
def deliver(order: str) -> dict[str, Any]:
    """Send a parcel, and wait until it has arrived."""
    with Redis.from_url(os.environ["SHOP_REDIS_URL"], socket_timeout=None) as shelf:
        shelf.rpush("sent", order)
        arrived = shelf.blpop(["arrived"], timeout=120)
    return {"order": order, "delivered": arrived is not None}
