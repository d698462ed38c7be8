"""The environment of a process as its settings: an unknown name is an error, so that a typo never means the default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from runyard_common import env_file
from runyard_common.settings import PREFIX, Settings
from runyard_common.values import broker_urls
from runyard_common.values.errors import ConfigurationError

#: Variables of commands and clients, which no process of a server reads.
OF_CLIENTS = frozenset({"RUNYARD_URL", "RUNYARD_API_KEY", "RUNYARD_PROFILE"})
#: Names that were compose.yaml's own once, and what it reads now.
_OF_COMPOSE = {"RUNYARD_BIND": "PUBLISH_ADDRESS", "RUNYARD_MEMORY": "CONTAINER_MEMORY"}


def load(**overrides: Any) -> Settings:
    """The settings of this process; `ConfigurationError` names an unknown or impossible one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    in_file = env_file.variables()
    given = {*os.environ, *(name.upper() for name in in_file)}
    unknown = sorted(name for name in given if name.startswith(PREFIX) and name not in known | OF_CLIENTS)
    if unknown:
        renamed = "".join(f" {name} is {_OF_COMPOSE[name]} now." for name in unknown if name in _OF_COMPOSE)
        raise ConfigurationError(
            f"Unknown setting {', '.join(unknown)}.{renamed} Known: {', '.join(sorted(known))}."
        )
    try:
        settings = Settings(**{**_values(in_file), **_values(os.environ), **overrides})
        _ = settings.sign_on  # refused now rather than at the first sign-in
        if settings.broker_url:
            broker_urls.broker(settings.broker_url)
        if settings.redis_url:
            broker_urls.redis(settings.redis_url)
        return settings
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        message = first["msg"].removeprefix("Value error, ").removesuffix(".")
        raise ConfigurationError(f"{name}: {message}.", field=name) from None


def _values(variables: Mapping[str, str | None]) -> dict[str, Any]:
    """The settings among these variables; an empty one means the default. Case does not count."""
    given = {name.lower(): value for name, value in variables.items() if value}
    prefix = PREFIX.lower()
    return {field: given[prefix + field] for field in Settings.model_fields if prefix + field in given}
