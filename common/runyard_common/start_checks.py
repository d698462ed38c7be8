"""The list of what processes check of their settings when they start, which `runyard doctor` reports from.

What can be read off one setting alone is refused where settings are read (`settings`). A new check belongs
here or there, never in the process that needs it: doctor would not know it. The launcher runs all of them before it
starts anything: what a check needs beyond the settings it imports itself, and only where there is something to check.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final

from runyard_common.agents.rules import model_prices
from runyard_common.agents.service import model_choice
from runyard_common.credentials.queries import key_files
from runyard_common.database import start_checks
from runyard_common.database.start_checks import Process, StartCheck
from runyard_common.environment import load
from runyard_common.files import open_files
from runyard_common.outbound import OutboundPolicy
from runyard_common.settings import Settings
from runyard_common.values import addresses, broker_urls
from runyard_common.values.errors import ConfigurationError, InvalidRequest

#: Kinds of files that RUNYARD_AGENTS may name.
AGENT_FILES: Final = (".py", ".yaml", ".yml", ".json")
_MODELS: Final = ("model", "model_flash", "model_fast", "model_max")


def settings_for(process: Process) -> Settings:
    """The settings of a process that starts. `ConfigurationError` names one that it cannot work with."""
    settings = load()
    start_checks.run(CHECKS, settings, process)
    return settings


def problems(settings: Settings) -> Iterator[ConfigurationError]:
    """Everything for which a process of these settings would not start."""
    return start_checks.problems(CHECKS, settings)


def missing_agents(source: str) -> ConfigurationError:
    """The refusal of a source of agents that does not exist."""
    return ConfigurationError(
        f"RUNYARD_AGENTS: there is no module, file or folder {source!r}.", field="RUNYARD_AGENTS"
    )


def without_agents(source: str) -> str:
    """The sentence for a source that is there and holds no agent and no tool."""
    if not Path(source).is_dir():
        return f"{source}: nothing in it is declared with @agent or @tool."
    return (
        f"{source}: the top level of this folder holds no agent and no tool. Looked for: Python files that declare "
        f"some (no others than __init__.py may begin with _), and manifests ({', '.join(AGENT_FILES[1:])}). Folders "
        "within are not searched: name each that holds agents."
    )


def _check_models(settings: Settings) -> None:
    _check_each_model(settings, lambda name: model_choice.check_name(settings, name))


def _check_model_libraries(settings: Settings) -> None:
    _check_each_model(settings, model_choice.check_library)


def _check_each_model(settings: Settings, check: Callable[[str], object]) -> None:
    named = [(f"RUNYARD_{name.upper()}", getattr(settings, name)) for name in _MODELS]
    named += [("RUNYARD_MODEL_FALLBACKS", name) for name in settings.model_fallbacks.split(",")]
    for setting, name in named:
        try:
            if name.strip():
                check(name.strip())
        except InvalidRequest as refusal:
            raise ConfigurationError(f"{setting}: {refusal.message}", field=setting) from None


def _check_tls_files(settings: Settings) -> None:
    """The clients word a file that is not there as a server that does not answer."""
    for name, url in (("RUNYARD_BROKER_URL", settings.broker_url), ("RUNYARD_REDIS_URL", settings.redis_url)):
        for parameter, path in broker_urls.tls_files(url, name).items():
            if not os.access(path, os.R_OK):
                raise ConfigurationError(
                    f"{name}: {parameter} names {path}, which this user cannot read.", field=name
                )


def _check_redis(settings: Settings) -> None:
    if not (settings.redis_url or settings.broker_url) or not settings.redis:
        return
    from runyard_common.stream.clients import connect

    name = "RUNYARD_REDIS_URL" if settings.redis_url else "RUNYARD_BROKER_URL"
    try:
        connect(settings.redis).connection_pool.make_connection()
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{name} has a parameter that cannot be used: {error}.", field=name
        ) from None


def _check_rates(settings: Settings) -> None:
    if settings.surface_requests_per_minute:
        from runyard_common import surfaces

        surfaces.rates(settings.surface_requests_per_minute)


def _check_broker(settings: Settings) -> None:
    if settings.broker_url:
        from runyard_common.broker.application import application

        application(settings)


def check_address(settings: Settings, may_be_in_use: bool = False) -> None:
    """Refuse a host or port that this machine cannot listen on, and a port that another program uses."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if settings.share_port:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(address)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError(
            f"RUNYARD_HOST: the host {settings.host} is unknown.", field="RUNYARD_HOST"
        ) from None
    except OSError as error:
        if error.errno == errno.EACCES:
            raise ConfigurationError(
                f"RUNYARD_PORT: {settings.port} needs rights this user does not have; set one above 1023.",
                field="RUNYARD_PORT",
            ) from None
        if error.errno != errno.EADDRINUSE:
            raise ConfigurationError(
                f"RUNYARD_HOST: {settings.host} is not an address of this machine.", field="RUNYARD_HOST"
            ) from None
        if not may_be_in_use:
            raise ConfigurationError(
                f"RUNYARD_PORT: {settings.port} on {settings.host} is taken. Stop the program that uses it, or set "
                "another (0 takes a free one).",
                field="RUNYARD_PORT",
            ) from None


def _check_agents(settings: Settings) -> None:
    """Refuse a source that does not exist, without running its code."""
    for source in settings.agent_sources:
        path = Path(source)
        if not (path.is_dir() or (path.is_file() and path.suffix in AGENT_FILES) or _is_module(source)):
            raise missing_agents(source)


def _is_module(name: str) -> bool:
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    whole, found = "", None
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        found = (
            _module(part) if found is None else PathFinder.find_spec(whole, found.submodule_search_locations)
        )
        if found is None or (whole != name and found.submodule_search_locations is None):
            return False
    return True


def _module(name: str) -> ModuleSpec | None:
    with suppress(ValueError):  # a module that is loaded and has no spec, such as __main__
        if found := importlib.util.find_spec(name):
            return found
    return PathFinder.find_spec(name, [""])  # beside the process, as `python -m` finds it


_API: Final = frozenset({Process.API})
_AGENTS: Final = frozenset({Process.API, Process.WORKER})
_SERVING: Final = start_checks.EVERY - {Process.MIGRATE}

CHECKS: Final = (
    *start_checks.CHECKS,
    StartCheck(key_files.check_jwt_secret, _AGENTS),
    StartCheck(lambda settings: _discard(open_files(settings.files)), _SERVING),
    StartCheck(lambda settings: _discard(OutboundPolicy.of(settings)), _SERVING),
    StartCheck(_check_tls_files, _SERVING),
    StartCheck(_check_redis, _SERVING),
    StartCheck(_check_broker, _SERVING),
    StartCheck(_check_models, _SERVING),
    StartCheck(_check_model_libraries, frozenset({Process.WORKER})),
    StartCheck(lambda settings: _discard(model_prices.parse(settings.model_prices)), _AGENTS),
    StartCheck(lambda settings: _discard(addresses.parse_origins(settings.allowed_origins)), _API),
    StartCheck(_check_rates, _API),
    # A port that is taken may be this installation's own: what listens asks again, for itself.
    StartCheck(lambda settings: check_address(settings, may_be_in_use=True), _API),
    StartCheck(_check_agents, frozenset({Process.WORKER})),
)


def _discard(_: object) -> None:
    """A check looks; what it made is not needed."""
