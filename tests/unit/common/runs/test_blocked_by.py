"""What keeps a task queued: its stored form, and what callers see of it."""

from __future__ import annotations

import pytest

from runyard_common.runs.rules.blocked_by import PREFLIGHT, RESUME, RETRY, BlockedBy

CASES = [
    (BlockedBy.limit("org-1|agent:@demo/echo"), "org-1|agent:@demo/echo", "agent:@demo/echo"),
    (BlockedBy.limit("*|key:r1:child:7|a"), "*|key:r1:child:7|a", "key:r1:child:7|a"),
    (BlockedBy.child("t1"), "child:t1", "child:t1"),
    (BlockedBy.schedule("s1"), "schedule:s1", "schedule:s1"),
    (RETRY, "retry", "retry"),
    (RESUME, "resume", "resume"),
    (PREFLIGHT, "preflight", "preflight"),
]


@pytest.mark.parametrize(("value", "stored", "label"), CASES)
def test_its_stored_form_and_its_label(value: BlockedBy, stored: str, label: str) -> None:
    assert (value.stored, value.label) == (stored, label)
    assert BlockedBy.parse(stored) == value
