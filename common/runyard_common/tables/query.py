"""The tables as queries see them.

SQLModel annotates each column with the type an instance has; in a query the same name is a column. Here the
tables are untyped, so that a query needs no cast at every comparison.
"""

from __future__ import annotations

from typing import Any

from runyard_common.agents import tables as agents
from runyard_common.datastores import tables as datastores
from runyard_common.human_tasks import tables as human_tasks
from runyard_common.identity import tables as identity
from runyard_common.runs import tables as runs
from runyard_common.schedules import tables as schedules
from runyard_common.sessions import tables as sessions
from runyard_common.statistics import tables as statistics
from runyard_common.usage import tables as usage
from runyard_common.webhooks import tables as webhooks

Agent: Any = agents.Agent
AgentTag: Any = agents.AgentTag
AgentVersion: Any = agents.AgentVersion
AnswerLink: Any = human_tasks.AnswerLink
ApiKey: Any = identity.ApiKey
Application: Any = identity.Application
Audit: Any = identity.Audit
AwaitedPart: Any = runs.AwaitedPart
Callback: Any = webhooks.Callback
ConfigVersion: Any = identity.ConfigVersion
Datastore: Any = datastores.Datastore
Delivery: Any = webhooks.Delivery
Document: Any = datastores.Document
EndUser: Any = identity.EndUser
Endpoint: Any = webhooks.Endpoint
EventWait: Any = runs.EventWait
Fire: Any = schedules.Fire
Idempotency: Any = identity.Idempotency
Invitation: Any = identity.Invitation
JournalEntry: Any = runs.JournalEntry
Lane: Any = runs.Lane
Limit: Any = runs.Limit
LinkedIdentity: Any = identity.LinkedIdentity
Login: Any = identity.Login
Member: Any = identity.Member
Message: Any = sessions.Message
Organisation: Any = identity.Organisation
Outbox: Any = runs.Outbox
Passage: Any = datastores.Passage
Question: Any = human_tasks.Question
QueuePlace: Any = runs.QueuePlace
QueueSample: Any = statistics.QueueSample
RecoveryCode: Any = identity.RecoveryCode
RegisteredTool: Any = agents.RegisteredTool
Schedule: Any = schedules.Schedule
Secret: Any = identity.Secret
SecondFactor: Any = identity.SecondFactor
SentEvent: Any = runs.SentEvent
Session: Any = sessions.Session
Slot: Any = runs.Slot
Start: Any = runs.Start
StateValue: Any = sessions.StateValue
Statistic: Any = statistics.Statistic
StatisticsProgress: Any = statistics.StatisticsProgress
StoredFile: Any = runs.StoredFile
Task: Any = runs.Task
TaskEvent: Any = runs.TaskEvent
Turn: Any = usage.Turn
User: Any = identity.User
Worker: Any = runs.Worker
WorkerAgent: Any = runs.WorkerAgent
