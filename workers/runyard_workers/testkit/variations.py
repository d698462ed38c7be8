"""What two runs of one conversation differ in by nature, and what no recording may have: ids, times, credentials."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from runyard_common.agents.service.model_choice import KEYS
from runyard_workers.attempts.redaction import REDACTED, Redaction

_ID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"<id (\d+)>")
_TIME: Final = re.compile(
    r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?|\b\d{10}(?:\.\d+)?\b"
)
#: What looks like a provider's key or a token, of any account.
_KEY: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|r8|ghp|gho|github_pat|xox[abprs]|AKIA|AIza|ya29|eyJ)[-_.]?[\w.-]{16,}"
    r"|\bBearer +[\w.~+/=-]{8,}"
)
#: How long before the run began a time still is one of the run, in seconds.
_BEFORE: Final = 60.0
#: Shorter texts of a request's credentials are part of ordinary words.
_SHORTEST: Final = 8


class Variations:
    """Of one run. `now`: the time of the test, in epoch seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._from = min(now(), time.time()) - _BEFORE
        self._redact = Redaction()
        keys = {key for names in KEYS.values() for key in names} | {"RUNYARD_MODEL_API_KEY"}
        self.add_secrets([os.environ.get(key) for key in sorted(keys)])

    def add_secrets(self, values: Any) -> None:
        """These values, and those within them, are in no recording."""
        if isinstance(values, str) and len(values) >= _SHORTEST:
            self._redact.add(values)
        elif isinstance(values, Mapping):
            self.add_secrets(list(values.values()))
        elif isinstance(values, Iterable) and not isinstance(values, str | bytes):
            for value in values:
                self.add_secrets(value)

    def removed(self, value: Any, ids: dict[str, str]) -> Any:
        """The value as any run of this conversation has it. Ids are numbered in `ids`, by their first occurrence."""
        return self.known(value, ids, number=True, times=True)

    def known(self, value: Any, ids: dict[str, str], *, number: bool = False, times: bool = False) -> Any:
        """The value without credentials, with the ids that have a number as their number. `number` numbers others."""

        def id_(found: re.Match[str]) -> str:
            if number:
                ids.setdefault(found[0], f"<id {len(ids) + 1}>")
            return ids.get(found[0], found[0])

        def clean(text: str) -> str:
            text = _ID.sub(id_, _KEY.sub(REDACTED, text))
            return _TIME.sub(self._time, text) if times else text

        return changed(self._redact(value), clean)

    def _time(self, found: re.Match[str]) -> str:
        text = found[0]
        try:
            if text.replace(".", "", 1).isdigit():
                moments = [float(text)]
            else:
                moment = datetime.fromisoformat(text)
                zones = (moment,) if moment.tzinfo else (moment.replace(tzinfo=UTC), moment.astimezone())
                moments = [one.timestamp() for one in zones]
        except (ValueError, OverflowError, OSError):
            return text
        until = max(self._now(), time.time()) + 1.0
        return "<time>" if any(self._from <= one <= until for one in moments) else text


def restored(value: Any, ids: Mapping[str, str]) -> Any:
    """A recorded answer with the ids of this run."""
    by_number = {number: id_ for id_, number in ids.items()}
    return changed(value, lambda text: _NUMBERED.sub(lambda found: by_number.get(found[0], found[0]), text))


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each of its texts and numbers changed; a number stays one where it is left as it is."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = change(written := repr(value))
        return value if text == written else text
    if isinstance(value, Mapping):
        return {change(str(key)): changed(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [changed(part, change) for part in value]
    return value
