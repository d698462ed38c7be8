"""A recorded conversation: the turns of a file, which of them answers what is asked, and how that differs."""

from __future__ import annotations

import difflib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runyard.recorded import Recorded

#: The name of a run's model where neither agent nor request names one: RUNYARD_MODEL while it is recorded.
UNNAMED: Final = "recorded"
_FORMAT: Final = 1
#: Characters of a text that a file shows; its digest is of all of it.
_MOST_SHOWN: Final = 4000
#: Lines of a difference that an error shows.
_MOST_LINES: Final = 60


@dataclass
class Turn:
    """What was asked, and the answer. `lost`: the attempt that had the answer was lost, and may ask for it again."""

    asked: dict[str, Any]
    digest: str
    answer: dict[str, Any] | None = None
    used: bool = False
    lost: bool = False

    def to_json(self, number: int) -> dict[str, Any]:
        """As the file has it."""
        return {"turn": number, "digest": self.digest, "asked": self.asked, "answer": self.answer}


@dataclass
class Conversation:
    """The conversation of one run. `misfit` is how it differs from the recorded one, once it does."""

    given: Recorded
    agent: str = ""
    misfit: str | None = None
    answers: set[str] = field(
        default_factory=set
    )  # parts of what was answered, as models' messages have them
    _turns: list[Turn] = field(default_factory=list)
    _failed: set[str] = field(default_factory=set)  # digests of requests that have no answer yet

    def __post_init__(self) -> None:
        if not self.given.record:
            self._turns = _read(self.given.path)

    @property
    def recording(self) -> bool:
        """Whether the models are asked."""
        return self.given.record

    @property
    def model(self) -> str:
        """The model of the first turn."""
        return str((self._turns[0].answer or {}).get("model") or UNNAMED) if self._turns else UNNAMED

    def begin(self, asked: dict[str, Any]) -> Turn:
        """The turn that these are the words of: one on record, or in a recording a new one, to be answered.

        Raises `AssertionError` where there is none.
        """
        if self.misfit is not None:
            raise AssertionError(self.misfit)
        digest = _digest(asked)
        fitting = [turn for turn in self._turns if turn.digest == digest and turn.answer is not None]
        unused = [turn for turn in fitting if not turn.used]
        # A lost attempt's answer may have been lost with it, so the next attempt asks for it again.
        turn = next(iter([] if self.recording else unused), None) or next(
            (t for t in fitting if t.lost), None
        )
        if turn is None and self.recording:
            turn = Turn(_shown(asked), digest)
            self._turns.append(turn)
        if turn is None:
            self.misfit = self._difference(_shown(asked))
            raise AssertionError(self.misfit)
        turn.used, turn.lost = True, False
        return turn

    def answered(self, turn: Turn, answer: dict[str, Any]) -> None:
        """The model has answered."""
        turn.answer = answer
        self._failed.discard(turn.digest)

    def failed(self, turn: Turn) -> None:
        """The model has not."""
        self._turns.remove(turn)
        self._failed.add(turn.digest)

    def number(self, turn: Turn) -> int:
        """Its number in the file, from 1."""
        return next(number for number, one in enumerate(self._turns, 1) if one is turn)

    def lose(self) -> None:
        """The attempt under way was lost."""
        for turn in self._turns:
            turn.lost = turn.used

    def end(self, error: str | None) -> None:
        """The run has ended: write the file, or see that it was used to its end (`AssertionError` otherwise)."""
        if self.misfit is None and not self.recording:
            left = next((turn for turn in self._turns if not turn.used), None)
            if left is not None:
                self.misfit = self._too_short(left, error)
        if self.misfit is not None:
            raise AssertionError(self.misfit)
        if self.recording and not self._failed:
            self._write()

    def _write(self) -> None:
        done = [turn for turn in self._turns if turn.answer is not None]
        turns = [turn.to_json(number) for number, turn in enumerate(done, 1)]
        document = {"runyard_conversation": _FORMAT, "agent": self.agent, "turns": turns}
        path = self.given.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)

    # -- differences ---------------------------------------------------------------------------------------

    def _difference(self, asked: dict[str, Any]) -> str:
        left = next((turn for turn in self._turns if not turn.used), None)
        path = self.given.path
        if left is None:
            count = len(self._turns)
            first = f"The model is asked for turn {count + 1}, and {path} has {count}. Asked:"
            return "\n".join((first, *_cut(_lines(asked)), self.given.again))
        found = difflib.unified_diff(_lines(left.asked), _lines(asked), n=2, lineterm="")
        lines = [line for line in found if not line.startswith(("---", "+++", "@@"))]
        first = f"Turn {self.number(left)} is another than in {path} (- recorded, + asked now):"
        return "\n".join((first, *_cut(lines), self.given.again))

    def _too_short(self, left: Turn, error: str | None) -> str:
        number, count = self.number(left), len(self._turns)
        first = f"The run ended before turn {number}; {self.given.path} has {count}. Recorded:"
        why = () if error is None else (f"The run failed: {error}",)
        return "\n".join((first, *_cut(_lines(left.asked)), *why, self.given.again))


def lines_of(text: str) -> str | list[str]:
    """A text as a file shows it: one of several lines line by line, so that a review shows which has changed."""
    return text.split("\n") if "\n" in text else text


def _read(path: Path) -> list[Turn]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["runyard_conversation"] == _FORMAT
        return [Turn(turn["asked"], turn["digest"], turn["answer"]) for turn in document["turns"]]
    except (ValueError, KeyError, TypeError, AssertionError):
        raise AssertionError(f"{path} is no recorded conversation of this version. Remove it.") from None


def _digest(asked: dict[str, Any]) -> str:
    written = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _shown(value: Any) -> Any:
    """The value with long texts cut."""
    if isinstance(value, str) and len(value) > _MOST_SHOWN:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{value[:_MOST_SHOWN]} [{len(value)} characters, {digest}]"
    if isinstance(value, dict):
        return {key: _shown(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return value


def _lines(asked: dict[str, Any]) -> list[str]:
    return json.dumps(asked, indent=2, ensure_ascii=False).splitlines()


def _cut(lines: list[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"  ({len(lines) - _MOST_LINES} more lines)"
