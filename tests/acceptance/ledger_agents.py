"""Agents that write what they do into a file, where no database can take it back."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from runyard import Context, agent


def _note(ledger: str, line: str) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@agent("@ledger/pays")
async def pays(ctx: Context, args: dict[str, Any]) -> str:
    """Takes its time, then pays."""
    _note(args["ledger"], f"{ctx.task.id} begin")
    await asyncio.sleep(args["seconds"])

    async def pay() -> str:
        _note(args["ledger"], f"{ctx.task.id} pay")
        return "paid"

    return str(await ctx.step("pay", pay, effect="irreversible"))
