"""The MCP servers a run may use, read from its agent's manifest and its request. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runyard.context import Effect
from runyard_workers.agent.failures import BadOptions

_EFFECTS = ("read", "idempotent", "irreversible")


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server. `token` is sent as a bearer; `effects` overrides what its tools declare of themselves."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    effects: dict[str, Effect] = field(default_factory=dict)
    tools: frozenset[str] | None = None  # the only ones offered, if given
    seconds: float = 60.0
    private: bool = False  # another organisation's: where it is and what it lists is not for the run's log


def parse(given: Sequence[Any], private: int = 0) -> tuple[McpServer, ...]:
    """Servers ``{serverName, serverUrl, auth?}`` (or ``{name, url}``); `BadOptions` invalid_mcp_server.

    `auth` is ``{type: bearer, token}`` or ``{type: oauth, oauth: {accessToken}}``. The first `private` are another
    organisation's.
    """
    servers = tuple(replace(_server(one, i), private=i < private) for i, one in enumerate(given))
    names = [server.name for server in servers]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _invalid(f"Two MCP servers are called {name!r}.", index, "serverName")
    return servers


def _server(given: Any, index: int) -> McpServer:
    if not isinstance(given, dict):
        raise _invalid("An MCP server is an object.", index, "")
    name, url = given.get("serverName") or given.get("name"), given.get("serverUrl") or given.get("url")
    if not isinstance(name, str) or not name.strip():
        raise _invalid("An MCP server needs a name.", index, "serverName")
    if not isinstance(url, str) or not url.strip():
        raise _invalid("An MCP server needs a URL.", index, "serverUrl")
    headers = {str(k): str(v) for k, v in (given.get("headers") or {}).items()}
    tools = given.get("tools")
    return McpServer(
        name.strip(),
        url.strip(),
        _token(given.get("auth"), index),
        headers,
        {str(k): v for k, v in (given.get("effects") or {}).items() if v in _EFFECTS},
        frozenset(map(str, tools)) if isinstance(tools, list) else None,
        float(given.get("timeout") or 60.0),
    )


def _token(auth: Any, index: int) -> str | None:
    if (
        auth is None
        or auth == {}
        or (isinstance(auth, dict) and auth.get("type") in (None, "none") and len(auth) < 2)
    ):
        return None
    if isinstance(auth, str):
        return auth
    oauth = auth.get("oauth") if isinstance(auth.get("oauth"), dict) else {}
    token = auth.get("token") or oauth.get("accessToken") or oauth.get("access_token")
    if not isinstance(token, str) or not token:
        raise _invalid("auth is {type: bearer, token} or {type: oauth, oauth: {accessToken}}.", index, "auth")
    return token


def _invalid(message: str, index: int, name: str) -> BadOptions:
    where = f"mcp_servers[{index}]" + (f".{name}" if name else "")
    return BadOptions(message, code="invalid_mcp_server", field=where)
