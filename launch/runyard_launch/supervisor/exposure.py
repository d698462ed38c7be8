"""The parts of an installation that are open to others, for `runyard doctor`: each a sentence with what closes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from runyard.loopback import is_loopback
from runyard_common.agents.service.model_choice import LOCAL
from runyard_common.credentials.queries.key_files import OLD_SECRET_KEYS
from runyard_common.identity.service.identity import ADMIN_KEY, JWT_SECRET, SECRET_KEY
from runyard_common.settings import Settings
from runyard_common.values import broker_urls

_OTHERS: Final = 0o077
_SECRETS: Final = (ADMIN_KEY, JWT_SECRET, SECRET_KEY, OLD_SECRET_KEYS)
_EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class Exposure:
    """One thing that is open. `intended`: it is open by design, and only worth knowing."""

    text: str
    intended: bool = False


def of_home(home: Path) -> str | None:
    """What in the home other users of this machine can read, or None."""
    for name in _SECRETS:
        if _readable(home / name):
            return f"{home / name} can be read by others: chmod 600 it"
    if _readable(home):
        return f"{home} is open to other users of this machine: chmod 700 {home}"
    return None


def of_settings(settings: Settings, environ: Mapping[str, str] = os.environ) -> Iterator[Exposure]:
    """What others can do because of a setting; nothing where all is closed."""
    if _is_reached(settings):
        yield from _of_api(settings)
    for text in (
        *_of_metrics(settings),
        *_of_callers(settings),
        *_of_servers(settings),
        *_of_calls(settings),
    ):
        yield Exposure(text)
    if _is_reached(settings):
        yield from _of_model(settings, environ)


def _is_reached(settings: Settings) -> bool:
    """Whether other machines reach the api: it listens for them, or something in front of it does."""
    listens = not is_loopback(f"http://{_in_url(settings.host)}")
    return listens or bool(settings.public_url and not is_loopback(settings.public_url))


def _of_api(settings: Settings) -> Iterator[Exposure]:
    listens = not is_loopback(f"http://{_in_url(settings.host)}")
    if not settings.public_url.startswith("https:"):
        where = (
            f"the api listens on {settings.host}" if listens else f"{settings.public_url} leads to the api"
        )
        yield Exposure(
            f"{where} without TLS: put a proxy with TLS in front and set RUNYARD_PUBLIC_URL=https://…, so that "
            "cookies are for TLS alone"
        )
    elif listens:
        yield Exposure(
            f"the api listens on {settings.host} beside the proxy that speaks TLS for it: let nothing but the proxy "
            f"reach port {settings.port}, or set RUNYARD_HOST=127.0.0.1 where the proxy is on this machine",
            intended=True,
        )
    if not settings.metrics_token:
        yield Exposure(
            "/metrics answers without a token, to everyone who reaches the api: set RUNYARD_METRICS_TOKEN, or keep the "
            "path from the outside in the proxy"
        )
    yield Exposure(
        "/docs and /openapi.json answer without a key: they describe the API, which is public, and hold no data of "
        "the installation; keep them from the outside in the proxy if you want",
        intended=True,
    )


def _of_metrics(settings: Settings) -> Iterator[str]:
    """The ports of the processes' own metrics."""
    open_ = settings.metrics_port and not is_loopback(f"http://{_in_url(settings.metrics_host)}")
    if open_ and not settings.metrics_token:
        yield (
            f"RUNYARD_METRICS_PORT is open on {settings.metrics_host} without a token: set RUNYARD_METRICS_TOKEN, or "
            "let nothing but Prometheus reach it"
        )


def _of_callers(settings: Settings) -> Iterator[str]:
    if settings.jwt_jwks_url:
        missing = [
            f"RUNYARD_JWT_{name.upper()}"
            for name in ("issuer", "audience")
            if not getattr(settings, f"jwt_{name}")
        ]
        if missing:
            yield (
                "RUNYARD_JWT_JWKS_URL lets every token of that address in, also those made for other services: set "
                + " and ".join(missing)
            )
    elif settings.jwt_secret and not settings.jwt_audience:
        yield (
            "RUNYARD_JWT_SECRET lets every token signed with it in, also those made for other services that share "
            "it: set RUNYARD_JWT_AUDIENCE, and RUNYARD_JWT_ISSUER, or share it with nothing else"
        )
    if settings.oidc_issuer and not (settings.oidc_allowed_domains or settings.oidc_required_claims):
        yield (
            "RUNYARD_OIDC_ISSUER lets everyone whom that provider knows try to sign in, by an invitation or a linked "
            "account: set RUNYARD_OIDC_ALLOWED_DOMAINS or RUNYARD_OIDC_REQUIRED_CLAIMS"
        )
    if _EVERYBODY in _parts(settings.allowed_origins):
        yield (
            "RUNYARD_ALLOWED_ORIGINS=* lets pages of every site call the API with their visitors' keys: name the "
            "origins"
        )


def _of_servers(settings: Settings) -> Iterator[str]:
    for name, url in (("RUNYARD_BROKER_URL", settings.broker_url), ("RUNYARD_REDIS_URL", settings.redis_url)):
        hosts = [urlsplit(one) for one in broker_urls.each_host(url)]
        reached = [host.netloc.rpartition("@")[2] for host in hosts if host.hostname]
        if not reached or all(is_loopback(f"http://{host}") for host in reached):
            continue
        if hosts[0].password is None:
            yield (
                f"{name} has no password: all who reach that server can take wake-ups and forge live events; set "
                "one there and here"
            )
    if settings.remote_control:
        yield (
            "RUNYARD_REMOTE_CONTROL lets all who can write to the broker stop workers: leave it off unless Flower or "
            "`celery inspect` is needed"
        )


def _of_calls(settings: Settings) -> Iterator[str]:
    if settings.allow_private_urls:
        yield (
            "RUNYARD_ALLOW_PRIVATE_URLS lets callers' webhooks and tool servers reach this network: turn it off and "
            "name single hosts in RUNYARD_ALLOWED_HOSTS"
        )
    if hosts := _parts(settings.allowed_hosts):
        yield (
            f"RUNYARD_ALLOWED_HOSTS lets callers' webhooks and tool servers reach {', '.join(hosts)}, at private "
            "addresses too: keep it to hosts that expect calls of strangers, with their port (host:port)"
        )
    tools = _parts(settings.public_tools)
    if _EVERYBODY in tools:
        yield (
            "RUNYARD_PUBLIC_TOOLS=* lets every organisation call every registered tool: name the tools that are meant "
            "for all"
        )
    elif tools:
        yield (
            f"RUNYARD_PUBLIC_TOOLS opens {', '.join(tools)}: name a tool as name@organisation-id where one "
            "organisation is to have it"
        )


def _of_model(settings: Settings, environ: Mapping[str, str]) -> Iterator[Exposure]:
    """The model of this machine is for trying things out; `runyard up` chooses it where nothing else is set."""
    from runyard_launch.supervisor.models import BY_KEY

    chosen = settings.model or settings.model_base_url or any(environ.get(key) for key in BY_KEY)
    if settings.model == LOCAL or not chosen:
        yield Exposure(
            "the model is the small one for development, or none: set RUNYARD_MODEL with its provider's key, or "
            "RUNYARD_MODEL_BASE_URL",
            intended=settings.model != LOCAL,
        )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _readable(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return bool(stat.S_IMODE(status.st_mode) & _OTHERS) and os.name == "posix"
