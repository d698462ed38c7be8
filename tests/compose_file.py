"""compose.yaml as Compose reads it: merges, `${…}`, the `.env` beside it, and what reaches a container of both.

Rules: https://docs.docker.com/compose/how-tos/environment-variables/envvars-precedence and /variable-interpolation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
#: What deploy/secrets.sh makes.
PASSWORDS: Final = ("POSTGRES_PASSWORD", "DATABASE_PASSWORD", "VALKEY_PASSWORD", "RABBITMQ_PASSWORD")
_INNERMOST: Final = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^${}]*))?\}")


def services() -> dict[str, Any]:
    """All services, after the file's merges."""
    return dict(_read())


@functools.cache
def _read() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def own_services() -> dict[str, Any]:
    """The services that run Runyard's own image."""
    return {name: service for name, service in services().items() if service.get("image") == "runyard"}


def environment(
    service: Mapping[str, Any], env_file: Mapping[str, str], shell: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables of a container: those of its env files, under those of its `environment`.

    `env_file` is the content of the `.env` beside compose.yaml, which fills `${…}` in too, behind the shell's.
    """
    given = {**env_file, **(shell or {})}
    found: dict[str, str] = {}
    for entry in service.get("env_file", []):
        assert entry == {"path": ".env", "required": False}, "the file may be missing"
        found |= env_file
    return found | {name: filled(str(text), given) for name, text in service.get("environment", {}).items()}


def filled(text: str, given: Mapping[str, str]) -> str:
    """The text with its variables filled in, from the inside out; `KeyError` for one that is required."""

    def value(found: re.Match[str]) -> str:
        name, operator, otherwise = found.groups()
        if operator == ":?" and not given.get(name):
            raise KeyError(name)
        return given.get(name) or otherwise or ""

    text = text.replace("$$", "\0")
    while (inner := _INNERMOST.sub(value, text)) != text:
        text = inner
    return text.replace("\0", "$")
