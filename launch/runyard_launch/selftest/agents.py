"""The canary: the agent of the selftest's own workers. It notes in a folder what it executes, so that repeats show."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from runyard import Context, agent

#: The folder of the selftest, in the environment of its workers.
FOLDER: Final = "SELFTEST_FOLDER"
NOTES: Final = "executed"
GO_ON: Final = "go-on"
NAME: Final = "@runyard-selftest/canary"
#: Raise it with each change of what the agent takes or gives: an installation keeps what was published before.
VERSION: Final = "1.0.0"


@agent(NAME, version=VERSION)
async def canary(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Executes `steps` steps (default 1); before the one numbered `wait_before` it waits for the selftest."""
    for number in range(int(args.get("steps", 1))):
        await ctx.step(f"step {number}", _execute, ctx.task.id, number, number == args.get("wait_before"))
    return {"steps": args.get("steps", 1)}


async def _execute(task_id: str, number: int, waits: bool) -> int:
    folder = Path(os.environ[FOLDER])
    while waits and not (folder / GO_ON).exists():  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(0.05)
    with (folder / NOTES).open("a") as notes:  # one short line is appended whole
        notes.write(f"{task_id} {number}\n")
    return number
