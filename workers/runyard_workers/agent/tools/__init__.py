"""The tools an agent may call, whatever they come from: one value each, free of the model library."""

from runyard_workers.agent.tools.base import Call, Tool, ToolFailure, Waits
from runyard_workers.agent.tools.toolbox import Toolbox

__all__ = ["Call", "Tool", "ToolFailure", "Toolbox", "Waits"]
