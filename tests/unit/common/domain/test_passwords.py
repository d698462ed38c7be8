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


def test_every_character_of_a_long_password_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_LOG_N", 4)
    monkeypatch.setattr(passwords, "_P", 1)
    long = "four words and more " * 12 + "with an end"
    kept = passwords.hashed(long)
    assert passwords.matches(long, kept)
    assert not passwords.matches(long[:-1], kept)
    assert not passwords.matches(long + " ", kept)


def test_hashes_of_an_earlier_cost_still_match_and_say_so() -> None:
    assert passwords.matches(PASSWORD, KEPT)
    assert passwords.outdated(KEPT)


def test_nobody_without_a_password_is_ever_matched() -> None:
    assert not passwords.matches("", None)


@pytest.mark.parametrize(
    "bad",
    [
        "", "short", "x" * 9, "x" * 40, "ab" * 200, "ab" * 100,
        "password12", "1234567890", "qwertyuiop", "P@ssw0rd123", "letmein2024", "abc123abc123", "welcome2026!",
        "runyard herons wade", "RunYard-7Kq2#vXw9", "ada.lovelace herons", "Ada.Lovelace-7Kq2#vXw9",
        "lovelace 1815", "brightwater 1815",
    ],
)  # fmt: skip
def test_passwords_that_are_guessed_at_once_are_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        passwords.check(bad, "new", "ada.lovelace+runs@example.com", ["Ada Brightwater"])
    assert refusal.value.field == "new"
    assert refusal.value.code == "weak_password"


@pytest.mark.parametrize(
    "good", ["a fine password", "correct horse battery", "7Kq2#vXw9Lp", "un café très noir"]
)
def test_passwords_that_take_many_guesses_are_taken(good: str) -> None:
    passwords.check(good, "new", "ed@example.com", ["Ed"])
