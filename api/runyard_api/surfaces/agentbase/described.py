"""What documents show of the contract: what its groups are for, and examples that a test sends to a server."""

from __future__ import annotations

from typing import Final

from runyard_api.http.operations import Described

DESCRIBED: Final = Described(
    tags={"agentbase": "The API of Agentbase: send a message and follow the events, with datastores."},
    examples={
        "AgentbaseDatastoreBody": {"name": "orders", "type": "documents"},
        "AgentbaseRunBody": {
            "message": "Which orders are late?",
            "system": "You are an assistant of the shop.",
            "mode": "fast",
            "rules": ["Answer in one sentence."],
        },
    },
    forms={"agentbase.index_document": {"file": "handbook.pdf", "datastore_id": "ds_3f9c2a"}},
)
