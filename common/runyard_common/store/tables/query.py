"""The tables as queries see them.

SQLModel annotates each column with the type an instance has; in a query the same name is a column. Here the
tables are untyped, so that a query needs no cast at every comparison.
"""

from __future__ import annotations

from typing import Any

from runyard_common.store.tables import agents, callbacks, identity, people, runs, schedules, usage

Agent: Any = agents.Agent
AgentTag: Any = agents.AgentTag
AgentVersion: Any = agents.AgentVersion
AnswerLink: Any = people.AnswerLink
ApiKey: Any = identity.ApiKey
Application: Any = identity.Application
Audit: Any = identity.Audit
Callback: Any = callbacks.Callback
Datastore: Any = usage.Datastore
Delivery: Any = callbacks.Delivery
Document: Any = usage.Document
EndUser: Any = identity.EndUser
Endpoint: Any = callbacks.Endpoint
Fire: Any = schedules.Fire
Idempotency: Any = identity.Idempotency
Invitation: Any = identity.Invitation
JournalEntry: Any = runs.JournalEntry
Lane: Any = runs.Lane
Limit: Any = runs.Limit
LinkedIdentity: Any = identity.LinkedIdentity
Login: Any = identity.Login
Member: Any = identity.Member
Message: Any = people.Message
Organisation: Any = identity.Organisation
Outbox: Any = runs.Outbox
Passage: Any = usage.Passage
Question: Any = people.Question
RecoveryCode: Any = identity.RecoveryCode
RegisteredTool: Any = agents.RegisteredTool
Schedule: Any = schedules.Schedule
SecondFactor: Any = identity.SecondFactor
Session: Any = people.Session
Slot: Any = runs.Slot
Start: Any = runs.Start
StoredFile: Any = runs.StoredFile
Task: Any = runs.Task
TaskEvent: Any = runs.TaskEvent
Turn: Any = usage.Turn
User: Any = identity.User
Worker: Any = runs.Worker
