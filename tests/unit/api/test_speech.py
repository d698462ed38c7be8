"""Agentbase's messages piece by piece: some lost, late or repeated, they still join to the output of the run."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runyard_api.surfaces.agentbase.speech import Speech


def delta(text: str, turn: int = 1, kind: str = "text") -> dict[str, Any]:
    return {"turn": turn, "agent": "@a/b", "kind": kind, "text": text}


def heard(events: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(event["type"], event.get("content")) for event in events]


def messages(events: list[dict[str, Any]]) -> list[str]:
    """The messages a reader has: a `_start` begins a new one, content is joined."""
    found: list[str] = []
    for event in events:
        if event["type"] == "agent_response_start":
            found.append("")
        elif event["type"] == "agent_response":
            found[-1] += event["content"]
    return found


def test_a_message_begins_once_and_grows_by_its_pieces() -> None:
    speech = Speech()
    frames = [*speech.delta(1, delta("Hel")), *speech.delta(1, delta("lo"))]
    assert heard(frames) == [
        ("agent_response_start", None),
        ("agent_response", "Hel"),
        ("agent_response", "lo"),
    ]


def test_the_whole_message_adds_nothing_to_what_was_sent() -> None:
    speech = Speech()
    speech.delta(1, delta("Hello"))
    assert speech.whole("message", {"turn": 1, "text": "Hello"}) == []


def test_the_whole_message_adds_what_of_it_was_lost() -> None:
    speech = Speech()
    speech.delta(1, delta("Hel"))
    assert heard(speech.whole("message", {"turn": 1, "text": "Hello"})) == [("agent_response", "lo")]


def test_without_any_piece_the_whole_message_is_sent() -> None:
    frames = Speech().whole("message", {"turn": 1, "text": "Hello"})
    assert heard(frames) == [("agent_response_start", None), ("agent_response", "Hello")]


def test_a_piece_was_lost_in_the_middle_and_the_message_begins_again() -> None:
    speech = Speech()
    frames = [*speech.delta(1, delta("Hel")), *speech.delta(1, delta("world"))]
    frames += speech.whole("message", {"turn": 1, "text": "Hello world"})
    assert messages(frames) == ["Helworld", "Hello world"]


def test_what_an_attempt_left_broken_off_is_sent_again_by_the_next() -> None:
    speech = Speech()
    frames = [
        *speech.delta(1, delta("I was about")),
        *speech.delta(2, delta("Now")),
        *speech.delta(2, delta(" whole")),
    ]
    frames += speech.whole("message", {"turn": 1, "text": "Now whole"})
    assert messages(frames) == ["I was about", "Now whole"]


def test_pieces_that_come_after_their_whole_message_are_old_news() -> None:
    speech = Speech()
    speech.whole("message", {"turn": 1, "text": "Hello"})
    assert speech.delta(1, delta("lo")) == []
    assert heard(speech.delta(1, delta("More", turn=2)))[-1] == ("agent_response", "More")


def test_a_turn_that_only_called_tools_closes_its_pieces() -> None:
    speech = Speech()
    speech.close(1)
    assert speech.delta(1, delta("late")) == []


def test_thoughts_and_answers_are_distinct_and_arguments_are_not_sent() -> None:
    speech = Speech()
    assert heard(speech.delta(1, delta("Hm", kind="thinking"))) == [
        ("agent_thinking_start", None),
        ("agent_thinking", "Hm"),
    ]
    assert heard(speech.delta(1, delta("Yes")))[0] == ("agent_response_start", None)
    assert speech.delta(1, delta('{"a"', kind="arguments")) == []
    assert speech.whole("thinking", {"turn": 1, "text": "Hm"}) == []
    assert speech.whole("message", {"turn": 1, "text": "Yes"}) == []


def test_two_messages_of_one_turn_share_its_pieces_in_order() -> None:
    speech = Speech()
    frames = [*speech.delta(1, delta("One.")), *speech.delta(1, delta("Two."))]
    frames += speech.whole("message", {"turn": 1, "text": "One."})
    frames += speech.whole("message", {"turn": 1, "text": "Two."})
    assert "".join(messages(frames)) == "One.Two."


@pytest.mark.parametrize("text", ["", None, 7])
def test_an_empty_piece_is_nothing(text: Any) -> None:
    assert Speech().delta(1, {"turn": 1, "kind": "text", "text": text}) == []


def test_a_python_agents_pieces_need_no_turn() -> None:
    speech = Speech()
    assert heard(speech.delta(1, {"text": "a"}))[-1] == ("agent_response", "a")
    assert heard(speech.delta(1, {"text": "b"})) == [("agent_response", "b")]


@pytest.mark.parametrize("seed", range(50))
def test_with_any_loss_the_last_message_of_a_turn_is_whole(seed: int) -> None:
    chance = random.Random(seed)
    frames: list[dict[str, Any]] = []
    speech, whole = Speech(), [f"turn {n}: " + "word " * chance.randint(1, 6) for n in (1, 2, 3)]
    expected = []
    for turn, text in enumerate(whole, 1):
        before = len(messages(frames))
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        for attempt in range(1, 1 + chance.randint(1, 2)):
            for piece in pieces[: chance.randint(0, len(pieces))]:
                if chance.random() < 0.8:
                    frames += speech.delta(turn * 10 + attempt, delta(piece, turn))
        frames += speech.whole("message", {"turn": turn, "text": text})
        expected.append(messages(frames)[before:][-1])
    assert expected == whole
