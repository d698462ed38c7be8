"""A follower's place in a log: what is new, what was heard before, and what shows a gap."""

from __future__ import annotations

from runyard_api.sse import _Place, frame
from runyard_common.stream import Events, Tokens
from runyard_common.values.logged_event import LoggedEvent


def event(seq: int, attempt: int = 1, status: str = "running") -> LoggedEvent:
    return {
        "task_id": "t",
        "seq": seq,
        "type": "x",
        "attempt": attempt,
        "data": {"status": status},
        "at": 1.0,
    }


def test_the_next_events_are_new_and_earlier_ones_are_not() -> None:
    place = _Place(3)
    assert place.fresh(Events([event(2), event(3), event(4), event(5)])) == Events([event(4), event(5)])
    assert place.fresh(Events([event(4), event(5)])) == Events([])
    assert place.seq == 5
    whole = Events([event(6), event(7)])
    assert place.fresh(whole) is whole, "followers that are as far share what is made of it"


def test_a_number_that_is_not_the_next_shows_a_gap_and_moves_nothing() -> None:
    place = _Place(3)
    assert place.fresh(Events([event(5)])) is None
    assert place.fresh(Events([event(4), event(6)])) is None
    assert place.seq == 3


def test_tokens_of_an_attempt_that_is_over_are_dropped() -> None:
    place = _Place(0)
    place.advance([event(1, attempt=2)])
    assert place.fresh(Tokens("t", 1, ["old"])) == Events([])
    assert place.fresh(Tokens("t", 2, ["new"])) == Tokens("t", 2, ["new"])


def test_the_terminal_event_ends_the_place() -> None:
    place = _Place(0)
    assert place.fresh(Events([event(1), event(2, status="completed")]))
    assert place.ended


def test_a_frame_is_one_event_on_one_data_line() -> None:
    assert frame({"text": "a\nb"}, id_="7") == b'id: 7\ndata: {"text":"a\\nb"}\n\n'
    assert frame(1, event="end") == b"event: end\ndata: 1\n\n"
