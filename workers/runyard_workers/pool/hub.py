"""Celery's own event loop, the kombu hub of the main thread, which fetches and acknowledges messages."""

from __future__ import annotations

from typing import Any

from celery.utils.log import get_logger
from kombu.asynchronous import get_event_loop
from kombu.message import Message

logger = get_logger("celery.pool")


def wake() -> None:
    """Make the consumer look again whether the pool has room, as it may sleep for a second. Any thread."""
    hub = get_event_loop()
    if hub is not None:
        hub.call_soon(_nothing)


def pump() -> None:
    """Do what the hub would, while the main thread waits for the pool to drain and nobody runs it.

    Its timers keep the broker connection alive, and late acknowledgements of tasks that finish during the
    drain go out at once, so that a kill later on does not make them run again. Deliveries stay untouched.
    """
    hub = get_event_loop()
    if hub is None:
        return
    hub.fire_timers()
    for callback in hub._pop_ready():
        if _settles_message(callback):
            _call(hub, callback)
        else:
            hub.call_soon(callback)


def _settles_message(callback: Any) -> bool:
    method = getattr(callback, "fun", None)
    return isinstance(getattr(method, "__self__", None), Message)


def _call(hub: Any, callback: Any) -> None:
    try:
        callback()
    except Exception as error:  # noqa: BLE001 - the hub's own handler logs it
        hub.on_callback_error(callback, error)


def _nothing() -> None:
    """What the hub is woken for."""
