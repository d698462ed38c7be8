"""What a model is asked and what it gives back, free of any wire format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

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
