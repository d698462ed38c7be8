"""Several commands to Redis in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

#: A command and its arguments.
Command = tuple[str | bytes | int | float, ...]


def execute(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """The answer to each command, in order; to one that Redis refuses, its error.

    A pipeline of redis-py does this for three times the CPU. Raises what a lost connection raises.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [answer(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # answers that are not read yet belong to these commands
        raise
    finally:
        pool.release(connection)


def answer(connection: Any) -> Any:
    """The next answer on a connection, or the error by which Redis refuses the command."""
    try:
        return connection.read_response()
    except redis.ResponseError as refused:
        return refused
