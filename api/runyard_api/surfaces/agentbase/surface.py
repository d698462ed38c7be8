"""What every process needs of the contract."""

from __future__ import annotations

from typing import Final

from runyard_common.surfaces import ApiSurface

SURFACE: Final = ApiSurface(
    "agentbase",
    __package__,
    ("runs", "sessions", "datastores", "status"),
    order=30,
    requests_per_minute=6000,
    statuses={"stopped": "cancelled"},
)
