"""The tools an agent may call, from every source. Only `mcp` knows the model library, whose client it is."""

from runyard_workers.agent.tools.toolbox import Call, Tool, Toolbox, ToolFailure, Waits

__all__ = ["Call", "Tool", "ToolFailure", "Toolbox", "Waits"]
