"""Identifiers: ordered in time, recognisable, normalised."""

from __future__ import annotations

import time
import uuid

import pytest

from runyard_common.values.ids import first_uuid7, is_agent_name, is_uuid, normalise, qualify, uuid4, uuid7


def test_ids_made_one_after_another_sort_in_that_order() -> None:
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_is_a_version_7_uuid_that_carries_the_time() -> None:
    made = uuid.UUID(uuid7())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert abs((made.int >> 80) / 1000 - time.time()) < 5


def test_a_random_id_is_a_version_4_uuid_and_all_differ() -> None:
    made = {uuid4() for _ in range(10_000)}
    assert len(made) == 10_000
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in made} == {(4, uuid.RFC_4122)}
    assert all(str(uuid.UUID(one)) == one for one in made)


@pytest.mark.parametrize("text", ["", "x", "../../etc", "3c90c3cc0d444b5088888dd25736052a", "{3c90c3cc}"])
def test_what_is_not_a_canonical_uuid_is_distinct(text: str) -> None:
    assert not is_uuid(text)


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Your First Agent ", "your_first_agent"), ("@demo/echo", "echo"), ("a-b.c", "a_b_c")],
)
def test_a_name_is_normalised_to_lower_case_and_underscores(name: str, slug: str) -> None:
    assert normalise(name) == slug


def test_a_name_without_scope_gets_the_default_scope() -> None:
    assert qualify("echo") == "@default/echo"
    assert qualify("@demo/echo") == "@demo/echo"


@pytest.mark.parametrize(
    "name", ["echo", "@Demo/echo", "@demo/", "@demo/../x", "@demo/a/b", "@/x", "@demo/ x"]
)
def test_names_that_are_no_agent_names_are_refused(name: str) -> None:
    assert not is_agent_name(name)


def test_the_first_id_of_a_moment_sorts_before_all_made_then_and_after_all_made_earlier() -> None:
    before = time.time()
    made = uuid7()
    assert first_uuid7(before - 0.01) < made < first_uuid7(time.time() + 0.01)
    assert uuid.UUID(first_uuid7(before)).version == 7
    assert first_uuid7(-1e12) == first_uuid7(0) < first_uuid7(1e12)
