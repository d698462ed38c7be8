"""Patterns of callers: the standard's dialect as far as linear time allows, the rest refused by its name."""

from __future__ import annotations

import pytest

from runyard_common.schemas import checks
from runyard_common.values.errors import InvalidRequest

FITTING = [
    (r"^\p{Lu}\p{Ll}+$", "Ärger", "ärger"),
    (r"^(?<year>\d{4})-(?<month>\d{2})$", "2026-01", "2026-1"),
    (r"^\d+$", "12", "٣"),  # ECMA-262: ASCII digits
    (r"^\w+$", "a_1", "é"),
    (r"^a$", "a", "a\n"),
    (r"^[A-Z]{2}\d{2}[A-Z0-9]{1,30}$", "DE89370400440532013000", "de89"),
    (r"^\u{1F600}$", "😀", "a"),
    (r"^[\w.+-]+@[\w-]+\.[\w.]+$", "a@b.example", "a@b"),
    (r"^(a|b)*?c$", "abac", "abad"),
    (r"^\/\-$", "/-", "a"),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), FITTING)
def test_patterns_match_as_in_the_standard(pattern: str, good: str, bad: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    assert checks.violations(good, schema) == []
    assert [v.code for v in checks.violations(bad, schema)] == ["pattern"]


REFUSED = [
    (r"^(?=.*\d).{8,}$", "`(?=` is look-ahead"),
    ("(?!a)b", "`(?!` is negative look-ahead"),
    ("(?<=a)b", "`(?<=` is look-behind"),
    ("(?<!a)b", "`(?<!` is negative look-behind"),
    (r"(a)\1", r"`\1` is a back reference"),
    (r"(?<x>a)\k<x>", r"`\k` is a back reference"),
    ("(?P<x>a)(?P=x)", "`(?P=` is a back reference"),
    ("(?>a+)b", "an atomic group"),
    ("a++", "possessive"),
    ("[a&&b]", "set operation"),
    ("[[:alpha:]]", "set operation"),
    (r"^a\Z", r"`\Z` is not in the standard's dialect"),
    (r"\uD83D", "half a character"),
    ("([", "`]` is missing"),
    ("(a", "`)` is missing"),
    ("a)", "`)` closes no group"),
    ("a{", "`{` starts no repetition"),
    ("*a", "ECMA-262"),
    ("(?(1)a|b)", "a conditional group"),
]


@pytest.mark.parametrize(("pattern", "part"), REFUSED)
def test_what_cannot_be_used_is_refused_with_the_part_and_the_place(pattern: str, part: str) -> None:
    for schema, place in (
        ({"properties": {"k": {"pattern": pattern}}}, "$.properties.k.pattern"),
        ({"patternProperties": {pattern: {}}}, "$.patternProperties"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            checks.check_schema(schema)
        assert refused.value.code == "invalid_schema"
        assert place in refused.value.message
        assert part in refused.value.message
