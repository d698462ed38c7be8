"""The crowd around a storm: clients that submit until they are accepted, and people who answer."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos.agents import IRREVERSIBLE
from tests.chaos.installation import Processes
from tests.chaos.ledger import BEGIN, Ledger
from tests.chaos.orders import Order

#: Tries of one submit, a fifth of a second apart.
_TRIES = 900
_AGAIN = (0, 409, 425, 429, 500, 502, 503, 504)


class Crowd:
    """Submits `orders` from eight threads, and answers every question and review, until it is closed."""

    def __init__(self, processes: Processes, ledger: Ledger, orders: Sequence[Order], callback: str) -> None:
        self._processes = processes
        self._ledger = ledger
        self._orders = orders
        self._callback = callback
        self._over = threading.Event()
        self.accepted: dict[str, Order] = {}
        self.refused: list[str] = []
        self._submitting = threading.Thread(target=self._submit, daemon=True)
        self._answering = threading.Thread(target=self._answer_questions, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._submitting.start()
        self._answering.start()

    @property
    def submitting(self) -> bool:
        """Whether some orders are not accepted yet."""
        return self._submitting.is_alive()

    def close(self) -> None:
        """Everybody goes home."""
        self._over.set()
        self._submitting.join(30)
        self._answering.join(30)

    def request(
        self, method: str, path: str, body: Any = None, turn: int = 0, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """One request to an api in turn; (0, None) when it does not answer in JSON."""
        names = list(self._processes.ports)
        try:
            return self._processes.request(method, path, body, names[turn % len(names)], headers)
        except (ValueError, http.client.HTTPException):
            return 0, None

    def _submit(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._submit_one, self._orders))

    def _submit_one(self, order: Order) -> None:
        """As a client would: again with the same Idempotency-Key until it is answered."""
        path = f"/api/v1/agents/{order.agent.replace('@', '%40').replace('/', '%2F')}/run"
        body: dict[str, Any] = {"args": order.args}
        if order.callback:
            body["callback"] = {"url": self._callback}
        headers = {"idempotency-key": f"chaos-{order.number}"}
        for attempt in range(_TRIES):
            status, answer = self.request("POST", path, body, order.number + attempt, headers)
            if status in (200, 201, 202):
                self.accepted[str(answer["task_id"])] = order
                return
            if self._over.wait(0.2):
                return
            if status not in _AGAIN:
                break
        self.refused.append(f"order {order.number} ({order.kind}): {status} {answer}")

    def _answer_questions(self) -> None:
        turn = 0
        while not self._over.wait(0.5):
            turn += 1
            status, page = self.request("GET", "/api/v1/inbox?limit=100", turn=turn)
            for waiting in page["data"] if status == 200 else ():
                self._answer(waiting, turn)

    def _answer(self, waiting: dict[str, Any], turn: int) -> None:
        path = f"/tasks/{waiting['task_id']}"
        if waiting["kind"] == "question":
            self.request("POST", f"{path}/message", {"message": "yes"}, turn)
        else:
            self.request("POST", f"{path}/review", self._decision(waiting), turn)

    def _decision(self, waiting: dict[str, Any]) -> dict[str, Any]:
        """Approve; of a step whose outcome is not known, look in the ledger whether it was done."""
        if waiting["cause"] != "unknown_outcome":
            return {"action": "approve"}
        step = str(waiting["action"])
        assert step.startswith(IRREVERSIBLE), waiting
        lives = self._ledger.lives().get(waiting["task_id"], [])
        done = any(act.step == step for life in lives for act in life.of(BEGIN))
        return {"action": "skip", "result": step} if done else {"action": "redo"}

    def unfinished(self) -> int:
        """How many tasks have not ended; -1 when no api answers."""
        for turn in range(len(self._processes.ports)):
            status, queue = self.request("GET", "/api/v1/ops/queue", turn=turn)
            if status == 200:
                names = ("waiting", "running", "queued", "waiting_for_input", "awaiting_review")
                return sum(int(queue[name]) for name in names)
        return -1

    def set_limit(self, agent: str, most: int) -> str:
        """At most so many runs of an agent at once; the limit's id."""
        body = {"kind": "agent", "selector": agent, "max_concurrent": most}
        status, limit = self.request("POST", "/api/v1/limits", body)
        assert status == 201, limit
        return str(limit["id"])

    def lift_limit(self, limit_id: str) -> None:
        """Remove a limit."""
        status, answer = self.request("DELETE", f"/api/v1/limits/{limit_id}")
        assert status == 204, (status, answer)

    def wait_submitted(self, seconds: float) -> None:
        """Wait until every order is accepted, at most so long."""
        deadline = time.monotonic() + seconds
        while self.submitting and time.monotonic() < deadline:
            time.sleep(0.1)
