"""What documents show of the contract: what its groups are for, and examples that a test sends to a server."""

from __future__ import annotations

from typing import Final

from runyard_api.http.operations import Described

DESCRIBED: Final = Described(
    tags={"nara": "The API of Nara: run a functional agent and wait for its result."},
    examples={"NaraRunBody": {"agentName": "writer", "args": {"topic": "sales in January"}}},
)
