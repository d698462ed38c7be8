"""A deliverer as a process of its own, for tests that kill it: `python -m tests.fakes.deliverer`.

Its settings are JSON in DELIVERER. SIGUSR1 wakes it, SIGTERM drains it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace

from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.engine import Database
from runyard_common.outbound import GuardedClient, OutboundPolicy, Timeouts
from runyard_common.runtime import NoNotifier, Runtime
from runyard_common.stream.live import Live
from runyard_common.webhooks.rules.breaker import BreakerPolicy
from runyard_common.webhooks.rules.delivery import NATIVE
from runyard_workers.webhooks import Deliverer, Keys
from runyard_workers.webhooks.hosts import Hosts


async def main() -> None:
    """Deliver until SIGTERM."""
    given = json.loads(os.environ["DELIVERER"])
    writer = Runtime(Database(given["database"]), Live(""), NoNotifier()).writer
    keys = Keys(Sealer(given["key"]), "https://runyard.example")
    schedule = replace(NATIVE, gaps=tuple(given["gaps"]), longest_wait=2.0) if given["gaps"] else NATIVE
    timeouts = Timeouts(connect=min(5.0, given["timeout"]), read=given["timeout"], total=given["timeout"])
    hosts = Hosts(BreakerPolicy(pause=given["pause"], longest_pause=4 * given["pause"]))
    async with GuardedClient(OutboundPolicy(allow_private=True)) as client:
        deliverer = Deliverer(
            writer, client, keys, schedules={"native": schedule}, timeouts=timeouts, hosts=hosts
        )
        deliverer._lease = given["lease"]
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, deliverer.wake)
        loop.add_signal_handler(signal.SIGTERM, over.set)
        deliverer.start()
        print("ready", flush=True)
        await over.wait()
        await deliverer.drain(2.0)


if __name__ == "__main__":
    asyncio.run(main())
