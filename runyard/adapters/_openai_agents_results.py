"""Results of tools of the OpenAI Agents SDK as the journal keeps them: a replay shows the model the same text."""

from __future__ import annotations

from typing import Any, Final

from agents import ToolOutputFileContent, ToolOutputImage, ToolOutputText

from runyard import json_form
from runyard.json_form import NotJson

_STRUCTURED: Final = (ToolOutputText, ToolOutputImage, ToolOutputFileContent)


class _Object(dict[str, Any]):
    """A result whose text is not that of its JSON form."""

    text: str

    def __str__(self) -> str:
        return self.text


class _Array(list[Any]):
    """As `_Object`."""

    text: str

    def __str__(self) -> str:
        return self.text


def packed(result: Any) -> tuple[Any, Any]:
    """A result in a form that the journal can keep, and what the log shows of it."""
    if isinstance(result, str):
        return {"value": result}, result
    text = None if _is_structured(result) else str(result)
    try:
        value = json_form.convert(result)
    except NotJson:  # the model gets its text
        return {"value": str(result)}, str(result)
    return {"value": value, "text": text}, value


def unpacked(kept: Any) -> Any:
    """The result as the library gets it. What was not packed is an operator's own."""
    if not isinstance(kept, dict) or "value" not in kept or not kept.keys() <= {"value", "text"}:
        return kept
    value, text = kept["value"], kept.get("text")
    if text is None or str(value) == text:
        return value
    if isinstance(value, dict | list):
        shown: Any = _Object(value) if isinstance(value, dict) else _Array(value)
        shown.text = text
        return shown
    return text


def _is_structured(result: Any) -> bool:
    """Whether the library makes content of it for the model, and no text."""
    members = result if isinstance(result, list | tuple) and result else (result,)
    return all(isinstance(one, _STRUCTURED) for one in members)
