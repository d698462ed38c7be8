"""SQLModel tables. Times are seconds since the Unix epoch (UTC) on the database's clock; ids are UUID text.

JSON is kept as text (see `columns.Json`), so that both databases store exactly what was sent.
"""

from runyard_common.store.tables import agents, callbacks, identity, people, runs, schedules, usage
from runyard_common.store.tables.columns import metadata

__all__ = ["agents", "callbacks", "identity", "metadata", "people", "runs", "schedules", "usage"]
