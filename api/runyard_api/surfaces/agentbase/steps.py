"""Where a step ends in the stream: behind the answers of the tools it called, which the log has later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runyard_common.webhooks.rules import callback_events as words

_CUT_OFF: Final = "The run ended before the tool answered."
Body = dict[str, Any]


@dataclass(slots=True)
class _Line:
    """One line of work: the agent's own, or that of a step of a workflow."""

    open: dict[str, Any] = field(
        default_factory=dict
    )  # the tools called whose answers have not come, by call
    deferred: list[Body] = field(default_factory=list)

    def release(self) -> list[Body]:
        deferred, self.deferred = self.deferred, []
        return deferred


@dataclass(slots=True)
class Steps:
    """Orders the events of a run's log as the contract shows them: tool use, tool response, step, cost.

    The log has a model turn, with what it cost, before the results of the tools that the model called in it.
    """

    _lines: dict[tuple[Any, Any], _Line] = field(default_factory=dict)

    def ordered(self, type_: str, data: Mapping[str, Any], made: list[Body]) -> list[Body]:
        """What to send of an entry of the log that means these events."""
        line = self._lines.setdefault((data.get("workflow"), data.get("step") or data.get("phase")), _Line())
        match type_:
            case "model_turn" if line.open:
                line.deferred = made
                return []
            case "tool_result":
                line.open.pop(str(data.get("id")), None)
                return made if line.open else [*made, *line.release()]
            case "tool_call" | "message" | "thinking" | "model_turn":
                earlier = line.release()  # a call that never was answered holds nothing up
                if earlier:
                    line.open.clear()
                if type_ == "tool_call":
                    line.open[str(data.get("id"))] = data.get("tool")
                return [*earlier, *made]
        return made

    def close(self, *, ended: bool = False) -> list[Body]:
        """What was held back: the run rests, or has `ended`, which ends the calls that were under way too."""
        closed: list[Body] = []
        for line in self._lines.values():
            if ended:
                for tool in line.open.values():
                    closed += words.of_log("tool_result", {"tool": tool, "result": _CUT_OFF})
                line.open.clear()
            closed += line.release()
        return closed
