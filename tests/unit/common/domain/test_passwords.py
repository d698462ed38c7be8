"""Passwords are kept as salted scrypt hashes that name their cost."""

from __future__ import annotations

import pytest

from common.domain import passwords
from common.domain.errors import InvalidRequest
from tests.people import KEPT, PASSWORD


def test_a_hash_matches_its_password_alone_and_no_two_are_alike() -> None:
    kept = passwords.hashed("un café noir")
    assert passwords.matches("un cafe\u0301 noir", kept)  # as another keyboard types it
    assert not passwords.matches("un cafe noir", kept)
    assert "café" not in kept
    assert not passwords.outdated(kept)


def test_hashes_of_an_earlier_cost_still_match_and_say_so() -> None:
    assert passwords.matches(PASSWORD, KEPT)
    assert passwords.outdated(KEPT)


def test_nobody_without_a_password_is_ever_matched() -> None:
    assert not passwords.matches("", None)


@pytest.mark.parametrize("bad", ["", "short", "x" * 9, "x" * 40, "ab" * 200])
def test_passwords_that_are_guessed_at_once_are_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        passwords.check(bad)
    assert refusal.value.code == "weak_password"
