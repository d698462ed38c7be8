"""An agent as nugen shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runyard_api.surfaces.nugen.models import name_of
from runyard_common.agents.queries.agents import AgentWithManifest
from runyard_common.agents.service.model_choice import model_name
from runyard_common.settings import Settings
from runyard_common.usage.queries import AgentUsage
from runyard_common.values.json_text import JsonObject
from runyard_common.values.models import Model
from runyard_common.webhooks.rules.payloads import when

#: The temperature of an agent that names none.
TEMPERATURE = 0.7


class NugenMetrics(Model):
    """How the agent does, over its newest runs."""

    average_uncertainty: float = Field(description="Not measured: 0.")
    human_interventions: int = Field(description="Questions and reviews put to people.")
    average_response_time: float = Field(description="Seconds from the request to the answer.")
    user_satisfaction_score: float = Field(description="Not measured: 0.")


class NugenAgent(Model):
    """An agent."""

    id: str
    name: str = Field(description="Its normalised name.")
    description: str
    base_model: str
    base_model_name: str
    created_date: str
    status: Literal["ACTIVE", "INACTIVE"]
    creator: str
    endpoint: str = Field(description="Where it is run.")
    usage_count: int
    last_used: str | None
    performance_metrics: NugenMetrics
    system_prompt: str
    temperature: float
    conversation_saving_enabled: bool


def agent_json(row: AgentWithManifest, used: AgentUsage, settings: Settings) -> JsonObject:
    """An agent with what its manifest has."""
    manifest = row.manifest or {}
    config = manifest.get("config") or {}
    model = "python" if row.kind == "python" else model_name(settings, manifest, {}) or ""
    temperature = manifest.get("temperature", config.get("temperature"))
    return {
        "id": row.id,
        "name": row.slug,
        "description": row.description or "",
        "base_model": model,
        "base_model_name": name_of(model),
        "created_date": when(row.created_at),
        "status": "ACTIVE" if row.is_active else "INACTIVE",
        "creator": row.created_by or "",
        "endpoint": f"{settings.base_url}/api/v3/agents/run-agents/{row.slug}/run",
        "usage_count": used.runs,
        "last_used": when(used.last_at),
        "performance_metrics": {
            "average_uncertainty": 0.0,
            "human_interventions": used.asked,
            "average_response_time": round(used.mean_s, 3),
            "user_satisfaction_score": 0.0,
        },
        "system_prompt": manifest.get("instructions") or config.get("system_prompt") or "",
        "temperature": TEMPERATURE if temperature is None else temperature,
        "conversation_saving_enabled": True,
    }
