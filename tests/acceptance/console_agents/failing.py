"""An agent that fails in a library."""

from __future__ import annotations

import json
from typing import Any

from runyard import Context, agent


@agent("@console/fails")
async def fails(ctx: Context, args: dict[str, Any]) -> Any:
    """Reads what is no JSON."""
    return json.loads("{not json")
