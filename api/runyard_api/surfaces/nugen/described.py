"""What documents show of the contract: what its groups are for, and examples that a test sends to a server."""

from __future__ import annotations

from typing import Final

from runyard_api.http.operations import Described

DESCRIBED: Final = Described(
    tags={"nugen": "The API of Nugen: make agents, and run them and wait."},
    examples={
        "NugenChangeBody": {"agent_description": "Writes short reports.", "temperature": 0.2},
        "NugenCreateBody": {
            "agent_name": "report writer",
            "agent_description": "Writes reports.",
            "model": "openai:gpt-5-mini",
            "instructions": "You write short reports.",
        },
        "NugenRunBody": {"message": "Summarise the report in three sentences."},
    },
)
