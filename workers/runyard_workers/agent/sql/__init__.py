"""Queries over callers' databases: read-only sessions, bound parameters, caps on rows, bytes and time."""

from runyard_workers.agent.sql.lexer import count_parameters, for_driver
from runyard_workers.agent.sql.results import Caps, QueryFailed, Rows
from runyard_workers.agent.sql.sources import Source, open_source
from runyard_workers.agent.sql.statements import MOST_CHARACTERS

__all__ = [
    "MOST_CHARACTERS",
    "Caps",
    "QueryFailed",
    "Rows",
    "Source",
    "count_parameters",
    "for_driver",
    "open_source",
]
