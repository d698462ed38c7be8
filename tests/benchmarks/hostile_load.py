"""A member who sends one hostile input again and again, in a process of its own: its work is not the measurer's.

python -m tests.benchmarks.hostile_load INPUT BASE_URL KEY SECONDS [MCP_URL]

What is large is made once, before the first line is printed ("ready"); the seconds begin then. Prints how often it
sent.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx2

MANIFESTS = "/api/v1/agents/manifests"
ECHO = "/api/v1/agents/@demo/echo/run"
YAML = {"content-type": "application/yaml"}
JSON = {"content-type": "application/json"}
Send = Callable[[], Any]


class Hostile:
    """The inputs, by name; each method makes what it needs and returns what sends it once."""

    def __init__(self, client: httpx2.Client, mcp_url: str = "") -> None:
        self.client, self.mcp_url = client, mcp_url

    def _posts(self, path: str, *values: Any, headers: dict[str, str] = JSON) -> Send:
        contents = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in values]

        def send() -> None:
            for content in contents:
                self.client.post(path, content=content, headers=headers)

        return send

    def _published(self, name: str, schema: dict[str, Any]) -> str:
        manifest = {"name": name, "version": "1.0.0", "instructions": "x", "input": {"schema": schema}}
        self.client.post(MANIFESTS, json=manifest)
        return f"/api/v1/agents/{name}/run"

    def pattern(self) -> Send:
        """A string of 5,000 letters against a pattern that doubles the work with each letter."""
        path = self._published("@hostile/pattern", {"properties": {"a": {"pattern": "^(a+)+$"}}})
        return self._posts(path, {"args": {"a": "a" * 5_000 + "!"}})

    def unique(self) -> Send:
        """60,000 objects that must all differ."""
        path = self._published("@hostile/unique", {"properties": {"a": {"uniqueItems": True}}})
        return self._posts(path, {"args": {"a": [{"a": n, "b": [n]} for n in range(60_000)]}})

    def references(self) -> Send:
        """22 references, each met twice by the one before."""
        doubled = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(22)}
        schema = {"$defs": doubled | {"d22": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}
        return self._posts(
            ECHO, {"query": "x", "output_config": {"output_schema": {"type": "object"} | schema}}
        )

    def yaml(self) -> Send:
        """250 KB of YAML."""
        lines = "".join(f"  k{n}: {{a: [1, 2]}}\n" for n in range(12_000))
        text = f"name: '@hostile/yaml'\nversion: 1.0.0\nmeta:\n{lines}"
        return self._posts(MANIFESTS, text[:250_000].encode(), headers=YAML)

    def aliases(self) -> Send:
        """YAML whose aliases double."""
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
        return self._posts(MANIFESTS, "\n".join(lines).encode(), headers=YAML)

    def ranges(self) -> Send:
        """Version ranges of 10,000 parts, and numbers of 60 digits."""
        return self._posts(ECHO, {"version": " || ".join(["^1.0.0"] * 10_000)}, {"version": "1." + "9" * 60})

    def deep_json(self) -> Send:
        """JSON of 200,000 levels."""
        return self._posts(ECHO, b'{"args": ' + b"[" * 200_000)

    def wide_json(self) -> Send:
        """JSON of 200,000 lists."""
        return self._posts(ECHO, {"args": {"a": [[n] for n in range(200_000)]}})

    def small_json(self) -> Send:
        """JSON of 15,000 lists in 60 KB, for a dry run."""
        return self._posts(f"{ECHO}?dry_run=1", {"query": "x", "args": {"a": [[]] * 15_000}})

    def schema(self) -> Send:
        """Values of 60 KB for a stored schema that judges each of them against 400 others."""
        wanted = {"contains": {"anyOf": [{"const": f"v{n}"} for n in range(400)]}}
        path = self._published("@hostile/schema", {"properties": {"a": wanted}})
        return self._posts(path, {"args": {"a": [f"w{n}" for n in range(6_000)]}})

    def strangers(self) -> Send:
        """Large JSON of a caller without credentials."""
        return self._posts("/api/v1/login", {"email": "a@example.com", "password": "x", "a": [[]] * 15_000})

    def blob(self) -> Send:
        """Runs of one text of 8 MB."""
        return self._posts(ECHO, {"args": {"blob": "x" * 8_000_000}})

    def pages(self) -> Send:
        """Pages of runs of 8 MB."""
        for _ in range(8):
            made = self.client.post(ECHO, json={"args": {"blob": "x" * 8_000_000}}).json()
            self.client.get(f"/tasks/{made['task_id']}?wait=30")

        def send() -> None:
            self.client.get("/api/runs?limit=100")
            self.client.get("/tasks?limit=100")

        return send

    def mcp(self) -> Send:
        """A run whose MCP server answers without an end."""
        path = self._published("@hostile/mcp", {})
        body = {"query": "x", "mcp_servers": [{"name": "flood", "url": self.mcp_url}]}

        def send() -> None:
            answer = self.client.post(path, json=body)
            if answer.status_code == 202:
                self.client.get(f"/tasks/{answer.json()['task_id']}?wait=10")

        return send


INPUTS = (
    "pattern", "unique", "references", "yaml", "aliases", "ranges", "deep_json", "wide_json", "small_json",
    "schema", "strangers", "blob", "pages", "mcp",
)  # fmt: skip


def main(name: str, base: str, key: str, seconds: str, mcp_url: str = "") -> None:
    """Send, as the docstring of the module has it."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=base, timeout=60, headers=headers) as client:
        send = getattr(Hostile(client, mcp_url), name)()
        print("ready", flush=True)
        until, sent = time.monotonic() + float(seconds), 0
        while time.monotonic() < until:
            send()
            sent += 1
        print(sent, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
