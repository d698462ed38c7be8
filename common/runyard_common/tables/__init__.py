"""All tables. Times are seconds since the Unix epoch (UTC) on the database's clock; ids are UUID text.

JSON is kept as text (see `columns.Json`), so that both databases store exactly what was sent.
"""

from runyard_common.agents import tables as agents
from runyard_common.database.columns import metadata
from runyard_common.datastores import tables as datastores
from runyard_common.human_tasks import tables as human_tasks
from runyard_common.identity import tables as identity
from runyard_common.runs import tables as runs
from runyard_common.schedules import tables as schedules
from runyard_common.sessions import tables as sessions
from runyard_common.statistics import tables as statistics
from runyard_common.usage import tables as usage
from runyard_common.webhooks import tables as webhooks

__all__ = [
    "agents",
    "datastores",
    "human_tasks",
    "identity",
    "metadata",
    "runs",
    "schedules",
    "sessions",
    "statistics",
    "usage",
    "webhooks",
]
