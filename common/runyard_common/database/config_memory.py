"""What a process remembers of organisations' configuration, by the number at which it was read (decision 0038)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

R = TypeVar("R")
_MOST: Final = 20_000


@dataclass(frozen=True, slots=True)
class Known(Generic[R]):
    """What was read while an organisation's configuration had this number, or a later one."""

    number: int
    value: R


class ConfigMemory:
    """The values of one database that were used last. Safe to use from any thread.

    A value counts while no higher number of its organisation was seen here. That none has been made elsewhere is for
    the transaction to check that relies on it.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._doubted: set[str] = set()
        self._values: OrderedDict[tuple[str, Hashable], Known[Any]] = OrderedDict()

    def number(self, org_id: str) -> int | None:
        """The number that was seen last."""
        return self._numbers.get(org_id)

    def get(self, org_id: str, key: Hashable) -> Known[Any] | None:
        """The value of this key, if it counts."""
        with self._lock:
            known = self._values.get((org_id, key))
            if known is None or known.number != self._numbers.get(org_id):
                return None
            self._values.move_to_end((org_id, key))
            return known

    def put(self, org_id: str, key: Hashable, known: Known[Any]) -> None:
        """Remember a committed value, unless a higher number was seen since it was read."""
        with self._lock:
            if self._saw(org_id, known.number):
                self._values[(org_id, key)] = known
                self._values.move_to_end((org_id, key))
                if len(self._values) > self._most:
                    self._values.popitem(last=False)

    def saw(self, org_id: str, number: int) -> None:
        """Note a committed number: what was read at a lower one counts no more."""
        with self._lock:
            self._saw(org_id, number)

    def doubt(self, org_ids: Iterable[str]) -> None:
        """Look before relying on what is remembered of these: a transaction that did so was refused."""
        if len(self._doubted) > self._most:
            self._doubted.clear()
        self._doubted.update(org_ids)

    def is_doubted(self, org_id: str) -> bool:
        """Whether to look first."""
        return org_id in self._doubted

    def trust(self, org_ids: Iterable[str]) -> None:
        """What is remembered of these was compared with the database."""
        self._doubted.difference_update(org_ids)

    def forget(self, org_id: str) -> None:
        """Read everything of an organisation again, also where a restored database counts from a lower number."""
        with self._lock:
            self._numbers.pop(org_id, None)

    def _saw(self, org_id: str, number: int) -> bool:
        if number < self._numbers.get(org_id, 0):
            return False
        self._numbers[org_id] = number
        self._numbers.move_to_end(org_id)
        if len(self._numbers) > self._most:
            self._numbers.popitem(last=False)
        return True
