"""What a model is asked and what it gives back, free of any wire format; and the stand-in where there is no model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from runyard_launch.localmodel.schemas import example

Schema = dict[str, Any]
Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


class BadCompletion(Exception):
    """The model cannot take this request; the message has the reason. `code` is OpenAI's, where it has one."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Completion:
    """One request: plain text messages, and the JSON Schema the answer must satisfy, if any."""

    messages: list[Message]
    schema: Schema | None = None
    max_tokens: int = 256
    sampling: dict[str, Any] = field(default_factory=dict)  # temperature, top_p, seed, stop, …


@dataclass(frozen=True)
class Ending:
    """How a completion ended: `reason` is `stop` or `length`; token counts."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


class Model(Protocol):
    """Something that completes; called from a thread."""

    name: str

    def complete(self, completion: Completion, on_text: Callable[[str], bool]) -> Ending:
        """Hand pieces of the answer to `on_text` until it is whole or `on_text` returns False.

        `BadCompletion` if the request cannot be served.
        """
        ...


NAME = "local/scripted"
ANSWER = "Scripted answer: no model is installed here."


class Scripted:
    """The stand-in. It answers with `ANSWER` or a value that fits the schema, and so calls each offered tool once."""

    name = NAME

    def complete(self, completion: Completion, on_text: Callable[[str], bool]) -> Ending:
        """See `Model.complete`; a token is a word."""
        text = ANSWER if completion.schema is None else json.dumps(example(completion.schema, ANSWER))
        words = re.findall(r"\s*\S+", text)
        asked = sum(len(message["content"].split()) for message in completion.messages)
        spoken = words[: completion.max_tokens]
        for sent, word in enumerate(spoken, 1):
            if not on_text(word):
                return Ending("stop", asked, sent)
        return Ending("stop" if spoken == words else "length", asked, len(spoken))
