"""Organisations that are being erased: their callers and new runs are refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runyard_common.values.errors import Forbidden, Unauthorized

#: The key of an organisation's settings that has when its erasure began, in epoch seconds.
ERASING: Final = "erasing"
CODE: Final = "organisation_erased"


def is_erasing(settings: Any) -> bool:
    """Whether an organisation with these settings is being erased."""
    return isinstance(settings, Mapping) and settings.get(ERASING) is not None


def closed(active: bool, erasing: bool, subject: str) -> Unauthorized | None:
    """Why an organisation takes no calls, if it takes none. `subject` begins the sentence: This organisation."""
    if erasing:
        return Unauthorized(f"{subject} is being erased: nothing of it can be called any more.", code=CODE)
    return None if active else Unauthorized(f"{subject} is deactivated.", code="organisation_inactive")


def no_runs() -> Forbidden:
    """Why no run is stored."""
    return Forbidden("This organisation is being erased: it takes no new runs.", code=CODE)
