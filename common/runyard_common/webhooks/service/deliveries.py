"""Deliver: claim due deliveries within every receiver's limits, and settle what came of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from runyard_common import tracing
from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import AnswerLink
from runyard_common.human_tasks.service.answer_links import LIFETIME
from runyard_common.identity.queries import identity
from runyard_common.runs.queries import traced
from runyard_common.webhooks.queries import callbacks, delivery_queue, endpoints
from runyard_common.webhooks.queries.delivery_queue import DueDelivery, Outgoing, Settled
from runyard_common.webhooks.queries.endpoints import EndpointRow
from runyard_common.webhooks.rules.delivery import decide_endpoint
from runyard_common.webhooks.rules.delivery_budget import HORIZON, Allowance, Head, pace, share
from runyard_common.webhooks.rules.payloads import placeholder, placeholders
from runyard_common.webhooks.rules.receivers import ENDPOINT_PREFIX

#: Calls under way at once to one host that runs call back, over all processes.
CALLBACK_PARALLEL: Final = 10
#: When to look again for a receiver whose deliveries wait behind others that are under way elsewhere, in seconds.
LOOK_AGAIN: Final = 0.25
#: How long a delivery may be due while its host's circuit is open, in seconds: as long as retries take in all.
LONGEST_WAIT: Final = 3 * 86_400.0
_BUSY: Final = 0.02
_ASKS: Final = ("waiting_for_input", "awaiting_review")


class Secrets(Protocol):
    """What only the deliverer knows (`runyard_workers.webhooks.secrets`)."""

    def link_tokens(self, event_id: str, question_id: str) -> list[str]:
        """The tokens that the link to a question in an event may have: the first is that of a new link."""

    def link(self, token: str) -> str:
        """The address of the link with this token."""

    def new_secret(self) -> bytes:
        """A fresh signing secret, sealed."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A deliverer asks for work. `after` is the receiver where its last look ended."""

    owner: str
    lease_s: float
    secrets: Secrets
    allowance: Allowance = field(default_factory=Allowance)
    after: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a deliverer got. It looks again after `wait_s` seconds (None: when woken), from receiver `after` on."""

    outgoing: list[Outgoing]
    wait_s: float | None
    after: str = ""


def claim(tx: Tx, commands: Sequence[ClaimRequest]) -> list[Claimed]:
    """Lease what is due to the deliverers that ask. A group-commit batch function."""
    return [_claim(tx, command) for command in commands]


def _claim(tx: Tx, command: ClaimRequest) -> Claimed:
    heads = delivery_queue.heads(tx.conn, command.after)
    after = heads[-1].receiver if len(heads) == delivery_queue.RECEIVERS else ""
    wanted = share(heads, command.allowance, tx.now)
    wait = _until_due(heads, wanted, command.allowance, tx.now)
    if not wanted:
        return Claimed([], 0.0 if after else wait, after)
    if not delivery_queue.try_claim_lock(tx):
        return Claimed([], _BUSY, command.after)
    outgoing: list[Outgoing] = []
    rules = endpoints.load(tx.conn, [r for r in wanted if r.startswith(ENDPOINT_PREFIX)])
    busy = delivery_queue.under_way(tx, wanted)
    for receiver, most in sorted(wanted.items()):
        got, again = _lease(tx, command, receiver, most, busy.get(receiver, 0), rules.get(receiver))
        outgoing += got
        wait = again if wait is None else wait if again is None else min(wait, again)
    return Claimed(_traced(tx, outgoing), 0.0 if after else wait, after)


def _traced(tx: Tx, outgoing: list[Outgoing]) -> list[Outgoing]:
    """The same, with what their spans are inside of."""
    if tracing.active() is None or not outgoing:
        return outgoing
    runs = traced.runs(tx.conn, {sent.task_id for sent in outgoing if sent.task_id})
    return [replace(sent, trace=runs.get(sent.task_id or "")) for sent in outgoing]


def _until_due(
    heads: Sequence[Head], wanted: Mapping[str, int], allowance: Allowance, now: float
) -> float | None:
    """Seconds until another receiver is due. Those that only lack room are looked at when a call has ended."""
    times = [max(head.next_at, allowance.paused.get(head.receiver, 0.0)) for head in heads]
    waits = [at - now for head, at in zip(heads, times, strict=True) if head.receiver not in wanted]
    return min((wait for wait in waits if wait > 0), default=None)


def _lease(
    tx: Tx, command: ClaimRequest, receiver: str, most: int, busy: int, rule: EndpointRow | None
) -> tuple[list[Outgoing], float | None]:
    """Lease up to `most` deliveries of a receiver; and when to look for more, None: once one of these has ended."""
    if receiver.startswith(ENDPOINT_PREFIX) and (rule is None or not rule.active):
        delivery_queue.mark_receiver_dead(
            tx, receiver, "endpoint_deleted" if rule is None else "endpoint_disabled"
        )
        return [], None
    most = min(most, (rule.max_parallel if rule else CALLBACK_PARALLEL) - busy)
    if most <= 0:
        return [], LOOK_AGAIN
    waits = [0.0] * most if rule is None else pace(rule.paced_until, rule.max_per_second, tx.now, most)
    if rule is not None and not waits:
        return [], max(0.0, (rule.paced_until or 0.0) - tx.now - HORIZON / 2)
    due = delivery_queue.due(tx, receiver, len(waits))
    leases = [(row.id, tx.now + wait + command.lease_s) for row, wait in zip(due, waits, strict=False)]
    delivery_queue.lease(tx, command.owner, leases)
    if rule is not None and due:
        endpoints.pace(tx, receiver, tx.now + waits[len(due) - 1] + 1.0 / rule.max_per_second)
    if rule is not None:
        got = [_outgoing(tx, command, row, wait, rule) for row, wait in zip(due, waits, strict=False)]
    else:
        got = _callbacks(tx, command, due)
    if not due:
        return got, LOOK_AGAIN
    return got, waits[-1] if len(due) == len(waits) < most else None


def _callbacks(tx: Tx, command: ClaimRequest, due: Sequence[DueDelivery]) -> list[Outgoing]:
    """Callbacks with their headers, and signed with their organisation's secret."""
    if not due:
        return []
    to = callbacks.of_tasks(tx.conn, {row.task_id for row in due if row.task_id})
    alive = [(row, callback) for row in due if (callback := to.get(row.task_id or "")) and callback.active]
    gone = {row.task_id for row in due if row.task_id} - {callback.task_id for _, callback in alive}
    if gone:
        delivery_queue.mark_callbacks_dead(tx, sorted(gone), "callback_gone")
    id_ = endpoints.callback_row(due[0].org_id)
    if not (rules := endpoints.load(tx.conn, [id_])):
        endpoints.ensure_callbacks(tx, due[0].org_id, command.secrets.new_secret())
        rules = endpoints.load(tx.conn, [id_])
    return [_outgoing(tx, command, row, 0.0, rules[id_], callback.headers) for row, callback in alive]


def _outgoing(
    tx: Tx,
    command: ClaimRequest,
    row: DueDelivery,
    wait_s: float,
    rule: EndpointRow,
    headers: bytes | None = None,
) -> Outgoing:
    overlaps = rule.old_secret_until is not None and rule.old_secret_until > tx.now
    sent = rows.values(row) | {"body": _with_links(tx, command.secrets, row), "attempt": row.attempt + 1}
    return Outgoing(
        **sent,
        style=rule.style,
        headers=headers,
        secret=rule.secret,
        old_secret=rule.old_secret if overlaps else None,
        failing=rule.failing_since is not None,
        wait_s=wait_s,
    )


def _with_links(tx: Tx, secrets: Secrets, row: DueDelivery) -> str:
    """The body as it goes out: with links by which a person without a key answers, once each."""
    body = row.body
    if not row.event_type.endswith(_ASKS):
        return body
    for question_id in placeholders(body, row.event_id):
        tokens = secrets.link_tokens(row.event_id, question_id)
        made = (token for token in tokens if questions.get_link(tx.conn, _digest(token)) is not None)
        token = next(made, None)
        if token is None:
            token = tokens[0]
            question = questions.get(tx.scope(row.org_id), question_id)
            until = (question and question.deadline_at) or tx.now + LIFETIME
            questions.put_link(tx, AnswerLink(_digest(token), row.org_id, question_id, until))
        body = body.replace(placeholder(row.event_id, question_id), secrets.link(token))
    return body


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def settle(tx: Tx, commands: Sequence[Settled]) -> list[str | None]:
    """Record attempts. Each answers with why its endpoint was switched off by it, or None. A batch function."""
    delivery_queue.settle(tx, commands)
    waits = {c.sent.order_key: tx.now + c.delay_s for c in commands if c.state == "pending"}
    delivery_queue.defer_followers(tx, waits)
    delivery_queue.release_followers(
        tx, [c.sent.order_key for c in commands if c.state != "pending" and c.sent.attempt > 1]
    )
    to_endpoints = [c for c in commands if c.sent.endpoint_id is not None]
    worked = {c.sent.receiver for c in to_endpoints if c.state == "success"}
    endpoints.work_again(tx, {c.sent.receiver for c in to_endpoints if c.sent.failing} & worked)
    endpoints.fail_since(tx, {c.sent.receiver for c in to_endpoints if not c.sent.failing} - worked)
    return [_switch_off(tx, c) for c in commands]


def _switch_off(tx: Tx, c: Settled) -> str | None:
    sent = c.sent
    if sent.endpoint_id is None:
        if c.disable is not None and sent.task_id is not None:
            callbacks.switch_off(tx, [sent.task_id])
            delivery_queue.mark_callbacks_dead(tx, [sent.task_id], "callback_gone")
        return None
    if c.state == "success" or (c.disable is None and not sent.failing):
        return None
    rule = endpoints.load(tx.conn, [sent.endpoint_id]).get(sent.endpoint_id)
    if rule is None or not rule.active:
        return None
    long = decide_endpoint(rule.failing_since, tx.now)
    why = c.disable or (long.why if long else None)
    if why is not None:
        disable(tx, sent.org_id, sent.endpoint_id, why, "system")
    return why


def disable(tx: Tx, org_id: str, endpoint_id: str, why: str, actor: str) -> None:
    """Send an endpoint nothing more until it is enabled; what was pending is dead and can be replayed."""
    endpoints.change(tx, endpoint_id, active=False, disabled_reason=why)
    delivery_queue.mark_receiver_dead(tx, endpoint_id, "endpoint_disabled")
    identity.audit(tx, org_id, actor, "webhook.disable", endpoint_id, {"reason": why})


def expire(tx: Tx, heads: Sequence[Head]) -> int:
    """Give up what has been due for `LONGEST_WAIT` without a call, as its host was never there; how many."""
    before = tx.now - LONGEST_WAIT
    return sum(
        delivery_queue.mark_waiting_dead(tx, head.receiver, before, "receiver_away")
        for head in heads
        if head.next_at < before
    )


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Deliveries a draining deliverer leased and did not send."""

    owner: str
    ids: tuple[str, ...]


def give_back(tx: Tx, commands: Sequence[GiveBack]) -> list[None]:
    """Make them due again, for another deliverer. A batch function."""
    for command in commands:
        delivery_queue.give_back(tx, command.owner, command.ids)
        tx.deliveries += len(command.ids)
    return [None] * len(commands)
