"""Passwords are kept as salted scrypt hashes that name their cost."""

from __future__ import annotations

import contextlib
import random
import string
import time

import pytest

from runyard_common.identity.rules import passwords
from runyard_common.values.errors import InvalidRequest
from tests.members import KEPT, PASSWORD


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


def test_no_account_without_a_password_is_ever_matched() -> None:
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


#: One word with what a policy asks for put around it: the usual answer to "a capital, a digit and a sign".
ORNAMENTED = [
    "Summer2026!!", "Company2026!", "Password123!", "Qwerty2026", "Welcome2026!!", "Winter2025!!", "Spring2026!!!",
    "Monday2026!!", "January2026!!", "London2026!!", "Berlin2026!?", "Michael1985!!", "Dragon2026!!", "Secret2026!!",
    "!!2026Summer", "2026Summer!!", "Summer-2026-!!", "Summer.2026.", "S0mm3r2026!!", "P@ssw0rd!2026#", "ChangeMe!2026",
    "Admin123456!", "Hello12345!", "Test1234!Test", "Sommer2026Sommer", "SummerWinter26", "Summer-Winter-2026",
    "JanuaryFebruary1", "MyPassword2026!", "secret-password", "qwertz1234!!", "azerty2026!!",
    "Sommer2026!!", "Herbst2026!", "Frühling2026!", "Passwort123!", "Contraseña123!", "Motdepasse1!",
    "Лето2026!!!", "Пароль123!", "Καλοκαίρι2026!",
]  # fmt: skip


@pytest.mark.parametrize("bad", ORNAMENTED)
def test_a_word_with_a_year_digits_or_signs_around_it_is_refused_with_what_to_do(bad: str) -> None:
    with pytest.raises(InvalidRequest, match="Use several words that do not belong together") as refusal:
        passwords.check(bad)
    assert refusal.value.code == "weak_password"


@pytest.mark.parametrize(
    "bad",
    ["Acme2026!!", "acme-corp-2026", "Corp.Acme.99", "AdaLovelace2026!", "Brightwater!123", "AcmeAcmeAcme"],
)
def test_so_are_names_of_the_person_and_the_organisation(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        passwords.check(bad, "new", "ada@acme-corp.example", ["Ada Lovelace Brightwater", "Acme Corp"])


@pytest.mark.parametrize(
    "good",
    [
        "a fine password", "correct horse battery", "7Kq2#vXw9Lp", "un café très noir", "Tj9vqmLd2e",
        "xkq7-pmz2-wv9r", "aXb3kLm9Zq", "8391 4720 6158", "sunset piano 8391", "herons wade at dusk 2026!",
        "Zug fährt nach Norden", "tres tigres comen trigo", "il gatto dorme sempre", "korrekt hevonen akku",
        "Donaudampfschiff26", "lampeotterschlamm",
        "ночь улица фонарь",
        "夜空に光る小さな星たち",
        "하늘 아래 작은 집",
        "زهرة الصحراء البعيدة",
    ],
)  # fmt: skip
def test_passwords_that_take_many_guesses_are_taken(good: str) -> None:
    passwords.check(good, "new", "ed@example.com", ["Ed", "Acme Corp"])


def test_what_a_password_manager_makes_is_taken() -> None:
    dice = random.Random(26)
    for _ in range(200):
        passwords.check("".join(dice.choice(string.ascii_letters + string.digits) for _ in range(14)))


@pytest.mark.parametrize(
    "slow",
    [
        "4@8({[<3691!|7$5+2%0" * 12, "p4@8({[<369&#!1/|0$5+7%2x" * 10, "4@8({[a" * 36, "password" * 32,
        "ab" * 128, "1.1.2020 " * 28, "a4" * 128, "áa\u0300" * 85, "!" * 255 + "a", "2026" * 64,
    ],
)  # fmt: skip
def test_no_password_takes_long_to_judge(slow: str) -> None:
    with contextlib.suppress(InvalidRequest):
        passwords.check("of the word lists, which take a moment to load")
    began = time.process_time()
    with contextlib.suppress(InvalidRequest):
        passwords.check(slow[: passwords.LONGEST], "new", "ada@example.com", ["Ada " * 50])
    assert time.process_time() - began < 2, (
        "the estimate tries every combination of what may stand for letters"
    )
