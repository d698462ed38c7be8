"""Which turn of a recorded conversation answers, and what varies between two runs of one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from runyard.recorded import recorded
from runyard_workers.testkit.conversation import Conversation
from runyard_workers.testkit.variations import Variations, restored


@pytest.fixture
def conversation(tmp_path: Path) -> Conversation:
    """A recording of turns a, b."""
    recording = Conversation(recorded(tmp_path / "turns.json", record=True))
    for name in ("a", "b"):
        recording.answered(recording.begin({"name": name}), {"text": name})
    recording.end(None)
    return Conversation(recorded(tmp_path / "turns.json"))


def answer(conversation: Conversation, name: str) -> Any:
    """The text that the turn of this name gives."""
    turn = conversation.begin({"name": name})
    assert turn.answer is not None
    return turn.answer["text"]


def test_turns_that_are_asked_side_by_side_are_found_in_any_order(conversation: Conversation) -> None:
    assert [answer(conversation, "b"), answer(conversation, "a")] == ["b", "a"]
    conversation.end(None)


def test_a_turn_answers_again_only_after_its_attempt_was_lost(conversation: Conversation) -> None:
    answer(conversation, "a")
    conversation.lose()
    assert [answer(conversation, "a"), answer(conversation, "b")] == ["a", "b"]
    with pytest.raises(AssertionError, match="asked for turn 3"):
        answer(conversation, "a")


def test_a_difference_that_the_agents_code_catches_fails_the_run_all_the_same(
    conversation: Conversation,
) -> None:
    for _ in range(2):
        with pytest.raises(AssertionError, match="Turn 1 is another"):
            answer(conversation, "c")
    with pytest.raises(AssertionError, match="Turn 1 is another"):
        conversation.end(None)


def test_a_lost_attempts_answer_is_recorded_once(tmp_path: Path) -> None:
    conversation = Conversation(recorded(tmp_path / "turns.json", record=True))
    conversation.answered(conversation.begin({"name": "a"}), {"text": "a"})
    conversation.lose()
    assert answer(conversation, "a") == "a"
    conversation.end(None)
    assert len(json.loads((tmp_path / "turns.json").read_text())["turns"]) == 1


def test_a_text_that_differs_behind_what_is_shown_is_another(tmp_path: Path) -> None:
    recording = Conversation(recorded(tmp_path / "long.json", record=True))
    recording.answered(recording.begin({"system": "x" * 5000 + "1"}), {})
    recording.end(None)
    with pytest.raises(AssertionError, match="5001 characters"):
        Conversation(recorded(tmp_path / "long.json")).begin({"system": "x" * 5000 + "2"})


FIRST, SECOND = "0192f0c1-0000-7000-8000-000000000001", "0192f0c1-0000-7000-8000-000000000002"


def test_ids_are_numbered_and_an_answer_gets_those_of_the_present_run() -> None:
    variations, ids = Variations(time.time), dict[str, str]()
    found = variations.removed({"id": FIRST, "text": f"{SECOND} of {FIRST}"}, ids)
    assert found == {"id": "<id 1>", "text": "<id 2> of <id 1>"}
    kept = variations.known({"call": SECOND, "new": FIRST[:-1] + "9"}, ids)
    assert kept == {"call": "<id 2>", "new": FIRST[:-1] + "9"}
    assert restored(kept, {"other": "<id 2>"})["call"] == "other"


def test_only_times_of_the_run_are_left_out() -> None:
    variations = Variations(lambda: 2_000_000_000.0)
    asked = {
        "now": 2_000_000_000.5,
        "text": "at 2033-05-18T03:33:20Z, not 2026-03-01T10:00:00Z",
        "count": 1_234_567_890,
    }
    assert variations.removed(asked, {}) == {
        "now": "<time>",
        "text": "at <time>, not 2026-03-01T10:00:00Z",
        "count": 1_234_567_890,
    }


def test_keys_and_credentials_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-an-odd-form")
    variations = Variations(time.time)
    variations.add_secrets({"headers": [{"Authorization": "Basic 0123456789"}]})
    text = "a-key-of-an-odd-form, Basic 0123456789, Bearer abcdefghijkl, sk-proj-0123456789abcdef0"
    assert variations.removed(text, {}) == ", ".join(["[redacted]"] * 4)
