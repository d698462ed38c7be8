"""The stand-in where the small model cannot be had: protocol-true, schema-true, and not intelligent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from runyard_launch.localmodel.completion import Completion, Ending
from runyard_launch.localmodel.schemas import example

NAME = "local/scripted"
ANSWER = "Scripted answer: no model is installed here."


class Scripted:
    """Answers with `ANSWER`, a schema with a value that satisfies it; so it calls each offered tool once."""

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
