"""The tools an agent may call, whatever they come from: one value each, free of the model library."""

from workers.agent.tools.base import Call, Tool, ToolFailure, Waits
from workers.agent.tools.toolbox import Toolbox

__all__ = ["Call", "Tool", "ToolFailure", "Toolbox", "Waits"]
