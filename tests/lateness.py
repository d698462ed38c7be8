"""What a busy machine keeps a process waiting, for the few tests that assert a time which the product promises."""

from __future__ import annotations

import threading
import time
from typing import Self

_SLEEP = 0.02
#: So much longer is nothing that a test would notice, in seconds.
_USUAL = 0.02


class Lateness:
    """Use as a context manager. A thread of it sleeps again and again; `seconds` is how much longer than it asked for.

    A promise of seconds is of a machine that has time for it: a test allows those, and what was lost meanwhile.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sleep, name="lateness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _sleep(self) -> None:
        before = time.monotonic()
        while not self._over.wait(_SLEEP):
            now = time.monotonic()
            late = now - before - _SLEEP
            self.seconds += late if late > _USUAL else 0.0
            before = now
