"""A live server for contract tests: real processes, a scripted model, keys of every role, a second organisation."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx2
import jwt
from sqlalchemy import text

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity as keys
from runyard_common.identity.service.identity import KeyRequest
from tests.fakes.model_server import ModelServer
from tests.ports import free_port
from tests.stack import Stack
from tests.waiting import wait_until

JWT_SECRET = "a secret that only these tests know, 43 long"
AGENTS = Path(__file__).parent / "agents"
MODEL = "openai:scripted"


class Live(Stack):
    """Use as a context manager. `model` answers what declared agents ask; script it by the message."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.model = ModelServer()
        self.model.__enter__()
        super().__init__(
            folder,
            agents=[str(AGENTS)],
            RUNYARD_JWT_SECRET=JWT_SECRET,
            RUNYARD_MODEL=MODEL,
            RUNYARD_MODEL_BASE_URL=self.model.url,
        )
        self.env |= env

    def __enter__(self) -> Self:
        try:
            super().__enter__()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *problem: object) -> None:
        super().__exit__(*problem)
        self.model.__exit__(*problem)

    def add_api(self, **env: str) -> str:
        """Start one more api process with settings of its own; its name."""
        name = f"api-{len(self.ports) + 1}"
        self.ports[name] = free_port()
        before, self.env = self.env, self.env | env
        self.start(name)
        self.env = before
        wait_until(lambda: self.status("/readyz", name=name) == 200, seconds=60)
        return name

    @cached_property
    def store(self) -> Store:
        """The database the processes share."""
        return Store(Database(f"sqlite:///{self.home.resolve() / 'runyard.db'}"))

    @cached_property
    def org_id(self) -> str:
        """The first organisation."""
        return str(self.request("GET", "/api/v1/me")[1]["org_id"])

    def key_of(self, role: str, scopes: list[str] | None = None) -> str:
        """A new key of the first organisation."""
        status, made = self.request("POST", "/api/v1/keys", {"name": role, "role": role, "scopes": scopes})
        assert status == 201, made
        return str(made["key"])

    def store_key(self, role: str) -> str:
        """A new key of the first organisation, of any role: made by the database, as the operator does."""
        with self.store.begin() as tx:
            wanted = KeyRequest(role, Role(role))
            return keys.create_key(tx, self.org_id, wanted, "system", Role.OWNER).key

    def new_organisation(self, balance_micros: int | None = None, active: bool = True) -> tuple[str, str]:
        """Another organisation: its id, and an admin key of it."""
        with self.store.begin() as tx:
            org_id = identity.insert_organisation(tx, "other")
            query = text("UPDATE organisations SET balance_micros = :left, active = :active WHERE id = :id")
            tx.conn.execute(query, {"left": balance_micros, "active": active, "id": org_id})
            made = keys.create_key(tx, org_id, KeyRequest("admin", Role.ADMIN), "system", Role.OWNER)
        return org_id, made.key

    def token(self, **claims: Any) -> str:
        """A JWT of the first organisation; role admin unless `claims` say otherwise."""
        defaults = {"sub": "user-1", "org": self.org_id, "roles": ["admin"], "exp": time.time() + 60}
        return jwt.encode(defaults | claims, JWT_SECRET, algorithm="HS256")

    def client(self, key: str | None = None, name: str = "api-1", **options: Any) -> httpx2.Client:
        """An HTTP client; `key` is the admin key by default, none at all when empty."""
        bearer = self.key if key is None else key
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        return httpx2.Client(base_url=self.url(name=name), headers=headers, timeout=30, **options)

    def gauge(self, name: str = "runyard_waiters_open") -> int:
        """A figure of api-1's metrics: by default how many callers it keeps waiting."""
        with self.client() as client:
            text = client.get("/metrics").text
        return int(float(re.findall(rf"^{name} (\S+)", text, re.MULTILINE)[0]))

    def threads(self) -> int:
        """How many threads api-1 has."""
        return self._status("Threads:")

    def memory_mb(self) -> float:
        """How much memory api-1 holds, in MB."""
        return self._status("VmRSS:") / 1024

    def _status(self, field: str) -> int:
        lines = Path(f"/proc/{self.processes['api-1'].pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))


def waiting_together(
    live: Live,
    callers: int,
    ask: Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]],
    barrier: Path,
    gauge: str = "runyard_waiters_open",
    then: Callable[[], None] | None = None,
) -> tuple[list[httpx2.Response], int]:
    """Have so many callers wait at once, look (`then`), and open the barrier: their answers, and api-1's threads
    meanwhile."""

    async def all_of_them() -> tuple[list[httpx2.Response], int]:
        limits = httpx2.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {live.key}"}
        async with httpx2.AsyncClient(
            base_url=live.url(), headers=headers, limits=limits, timeout=120
        ) as client:
            asked = [asyncio.ensure_future(ask(client)) for _ in range(callers)]
            try:
                await asyncio.to_thread(
                    wait_until, lambda: live.gauge(gauge) >= callers, seconds=90, every=0.3
                )
                threads = live.threads()
                if then is not None:
                    then()
            finally:
                await asyncio.to_thread(barrier.touch)
            return await asyncio.gather(*asked), threads

    return asyncio.run(all_of_them())


def unique(text: str) -> str:
    """The text with an end of its own: no other test asks the scripted model about it."""
    return f"{text} {uuid.uuid4().hex[:8]}"
