"""What models of requests, answers and manifests have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Its validator is built when it is first used: a process imports ten times as many models as it uses."""

    model_config = ConfigDict(defer_build=True)
