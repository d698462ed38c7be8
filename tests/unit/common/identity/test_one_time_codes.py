"""Codes of authenticators count for a short time and once; recovery codes are read however they are typed."""

from __future__ import annotations

import pyotp

from runyard_common.identity.rules import one_time_codes as codes

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # the key of RFC 6238's test vectors
AT_59 = "287082"  # the last six digits of its first one


def test_a_code_is_that_of_the_rfc() -> None:
    assert codes.step_of(SECRET, AT_59, 59, -1) == 1
    assert codes.step_of(SECRET, "287 082", 59, -1) == 1
    assert codes.step_of(SECRET, "287083", 59, -1) is None


def test_clocks_may_differ_by_a_step_and_no_more() -> None:
    found = [codes.step_of(SECRET, AT_59, now, -1) for now in (0, 29, 30, 59, 60, 89, 90, 120)]
    assert found == [1, 1, 1, 1, 1, 1, None, None]


def test_neither_a_code_that_was_used_nor_an_earlier_one_counts() -> None:
    assert codes.step_of(SECRET, AT_59, 59, 1) is None
    assert codes.step_of(SECRET, AT_59, 59, 2) is None
    assert codes.step_of(SECRET, pyotp.TOTP(SECRET).at(60), 60, 1) == 2


def test_what_is_no_six_digits_is_no_code() -> None:
    for bad in ("", "28708", "2870822", "２８７０８２", "28708x", "\ud800"):
        assert codes.step_of(SECRET, bad, 59, -1) is None, bad


def test_a_secret_is_read_by_authenticators_and_new_each_time() -> None:
    one, two = codes.new_secret(), codes.new_secret()
    assert one != two
    read = pyotp.parse_uri(codes.uri(one, "ada@example.com"))
    assert (read.secret, read.name, read.issuer) == (one, "ada@example.com", "Runyard")


def test_recovery_codes_are_different_and_read_without_their_hyphens() -> None:
    made = codes.new_recovery_codes()
    assert len(set(made)) == codes.RECOVERY_CODES
    assert codes.recovery_hash("u", made[0]) == codes.recovery_hash("u", made[0].upper().replace("-", " "))
    assert codes.recovery_hash("u", made[0]) != codes.recovery_hash("v", made[0])
