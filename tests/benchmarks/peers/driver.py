"""What the program of every subject runs: it obeys the harness, one command after another.

A command is one JSON line on standard input, {"do": "throughput", "runs": 1000, "connections": 32}; its report is one
JSON line on standard output. Standard library only: it runs in the virtualenv of each peer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.benchmarks.peers.load import LIMIT, Load
from tests.benchmarks.peers.peer import Peer


def main(peer: Callable[[], Peer], **roles: Callable[[], Awaitable[None]]) -> None:
    """`python -m tests.benchmarks.peers.NAME` obeys the harness; with the name of a role it is that process."""
    if len(sys.argv) > 1:
        asyncio.run(_role(roles[sys.argv[1]]))
        return
    reports = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no report
    asyncio.run(_serve(peer(), reports))


async def _role(role: Callable[[], Awaitable[None]]) -> None:
    await role()


async def _serve(peer: Peer, reports: int) -> None:
    load = Load(peer, os.environ["BENCH_MARKS"])
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            report = await _carried_out(peer, getattr(load, command.pop("do"))(**command))
            os.write(reports, json.dumps(report).encode() + b"\n")
            if "error" in report:
                return
    finally:
        await peer.close()


async def _carried_out(peer: Peer, command: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    carried_out, died = asyncio.create_task(command), asyncio.create_task(peer.died())
    try:
        await asyncio.wait((carried_out, died), timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
        if not carried_out.done():
            return {"error": "a process of the subject ended" if died.done() else f"no end within {LIMIT} s"}
        return carried_out.result()
    except Exception:  # noqa: BLE001 - the harness shows it
        return {"error": traceback.format_exc()}
    finally:
        carried_out.cancel()
        died.cancel()
