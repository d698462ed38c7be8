"""One attempt: what is sent, what is kept of the answer, what it means."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pytest
import standardwebhooks

from runyard_common.credentials.rules.sealing import SealBroken, Sealer, new_key
from runyard_common.outbound.errors import HeaderRefused
from runyard_common.webhooks.queries.delivery_queue import Outgoing
from runyard_common.webhooks.rules.delivery import NATIVE
from runyard_common.webhooks.rules.signing import new_secret
from runyard_workers.webhooks.call import KEPT, Outcome, _shown, judge, prepare
from runyard_workers.webhooks.keys import Keys

SEALER = Sealer(new_key())
SECRET, OLD = new_secret(), new_secret()


def keys() -> Keys:
    return Keys(SEALER, "https://runyard.example")


def outgoing(**values: Any) -> Outgoing:
    base: dict[str, Any] = {
        "id": "d1", "org_id": "o1", "task_id": "t1", "endpoint_id": "wh_1", "receiver": "wh_1", "order_key": "k",
        "event_id": "evt_1", "event_type": "run.completed", "url": "https://a.example/", "host": "a.example",
        "body": '{"a":1}', "attempt": 1, "attempts": None, "style": "native", "headers": None,
        "secret": SEALER.seal(SECRET), "old_secret": None, "failing": False, "wait_s": 0.0,
    }  # fmt: skip
    return Outgoing(**base | values)


def test_both_secrets_sign_while_one_replaces_the_other() -> None:
    request = prepare(keys(), outgoing(old_secret=SEALER.seal(OLD), attempt=3), time.time())
    for secret in (SECRET, OLD):
        assert standardwebhooks.Webhook(secret).verify(request.content, request.headers) == {"a": 1}
    assert (request.headers["webhook-id"], request.headers["webhook-attempt"]) == ("evt_1", "3")


def test_a_callers_headers_go_along_but_never_in_place_of_the_signature() -> None:
    sealed = SEALER.seal({"Authorization": "Bearer x", "Content-Type": "application/cloudevents+json"})
    request = prepare(keys(), outgoing(headers=sealed), 0.0)
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers["content-type"] == "application/cloudevents+json"
    with pytest.raises(HeaderRefused):
        prepare(keys(), outgoing(headers=SEALER.seal({"webhook-signature": "v1,forged"})), 0.0)


def test_a_secret_sealed_with_another_key_is_an_error_not_an_unsigned_call() -> None:
    with pytest.raises(SealBroken):
        prepare(keys(), outgoing(secret=Sealer(new_key()).seal(SECRET)), 0.0)


def test_an_answer_is_kept_without_the_secrets_it_repeats() -> None:
    shown = _shown(b"you sent Bearer abcdef and \xff\0", ("Bearer abcdef", "whsec_x"))
    assert shown == "you sent ******** and \ufffd\ufffd"
    assert _shown(b"", ()) is None
    assert len(_shown(b"x" * 10_000, ()) or "") == KEPT


@pytest.mark.parametrize(
    ("outcome", "attempt", "state", "error", "disable"),
    [
        (Outcome(204), 1, "success", None, None),
        (Outcome(500), 1, "pending", "http_500", None),
        (Outcome(302), 1, "pending", "http_302", None),
        (Outcome(404), 1, "dead", "http_404", None),
        (Outcome(410), 1, "dead", "http_410", "gone"),
        (Outcome(500), 13, "dead", "http_500", None),
        (Outcome(error="read_timeout", message="Silence."), 1, "pending", "read_timeout: Silence.", None),
        (Outcome(error="url_refused", message="No."), 1, "dead", "url_refused: No.", None),
    ],
)
def test_what_an_outcome_means(
    outcome: Outcome, attempt: int, state: str, error: str | None, disable: str | None
) -> None:
    settled = judge(outgoing(attempt=attempt), outcome, "me", NATIVE, Random(1), 1000.0)
    assert (settled.state, settled.error, settled.disable) == (state, error, disable)
    assert (settled.delay_s > 0) == (state == "pending")


def test_the_token_of_a_link_is_the_same_at_every_attempt_and_no_other() -> None:
    (one,) = keys().link_tokens("evt_1", "q1")
    assert [one] == keys().link_tokens("evt_1", "q1")
    (of_another_event,) = keys().link_tokens("evt_2", "q1")
    (of_another_key,) = Keys(Sealer(new_key()), "").link_tokens("evt_1", "q1")
    assert len({one, of_another_event, of_another_key}) == 3
    assert keys().link(one) == f"https://runyard.example/answer/{one}"
    assert len(one) >= 43


def test_a_link_that_was_made_before_the_key_changed_is_found_by_the_old_key() -> None:
    old, new = new_key(), new_key()
    before = Keys(Sealer(old), "").link_tokens("evt_1", "q1")
    meanwhile = Keys(Sealer(f"{new},{old}"), "").link_tokens("evt_1", "q1")
    assert meanwhile == Keys(Sealer(new), "").link_tokens("evt_1", "q1") + before
