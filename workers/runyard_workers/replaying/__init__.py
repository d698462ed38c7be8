"""Replay: an agent's code on the recorded journal of a run, executing nothing that is new."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from runyard.authoring import AgentDefinition
from runyard.replays import NotReplayable, Replay
from runyard_workers.isolation.threads import DaemonThreads
from runyard_workers.replaying.recorded import Recording
from runyard_workers.replaying.replay import replay

_THREADS = 8
#: What a loop may take to answer beyond the time of a replay, in seconds: one that does not is blocked.
_ANSWERING = 1.0


def run(
    definition: AgentDefinition,
    recording: Recording,
    files: Mapping[str, bytes] | None = None,
    timeout: float = 60.0,
) -> Replay:
    """As `replay`, in a thread of its own: also where a loop runs, and for code that blocks. Raises `NotReplayable`."""
    begun = threading.Event()
    done: list[Replay] = []
    failed: list[BaseException] = []

    async def work() -> None:
        asyncio.get_running_loop().set_default_executor(DaemonThreads(_THREADS, "runyard-replay"))
        done.append(await replay(definition, recording, files, timeout, begun.set))

    def in_thread() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=in_thread, name="runyard-replay", daemon=True)
    thread.start()
    begun.wait()  # the time is the code's
    thread.join(timeout + _ANSWERING)
    if failed:
        raise failed[0]
    if not done:
        raise NotReplayable(f"The code blocks: it did not come to an end within {timeout:g} s.")
    return done[0]


__all__: list[Any] = ["run"]
