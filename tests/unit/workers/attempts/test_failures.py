"""Classification of what an attempt raised: never raises itself, and all of it can be stored."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from sqlalchemy.exc import DataError, OperationalError, StatementError

from runyard.errors import AgentError, Cancelled, ProviderError, RetryLater, Suspension
from runyard.json_form import NotJson
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.values.errors import Unavailable
from runyard_workers.agent_code.failures import AgentFailed, of_agent
from runyard_workers.agent_code.raised import describe, raised_again
from runyard_workers.attempts.failures import classify
from tests.agent_exits import ALL_PLAIN_ERRORS, Own, Unprintable


class Hostile(Exception):
    """Nothing of it can be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(1)


class HostileAgentError(AgentError):
    """An agent error that raises where it is read."""

    @property
    def details(self) -> Any:
        raise ValueError("no details")

    @details.setter
    def details(self, value: Any) -> None:
        pass


class Bare(AgentError): ...


class NeverInitialised(AgentError):
    def __init__(self) -> None:
        self.args = ("bare",)


ERRORS: list[BaseException] = [
    *ALL_PLAIN_ERRORS,
    HostileAgentError("hostile"),
    Bare(),
    NeverInitialised(),
    Unprintable(),
    Own("\ud800\0"),
    asyncio.CancelledError(),
    Cancelled(),
    Suspension(),
    BaseExceptionGroup("g", [KeyboardInterrupt()]),
    AgentError("\ud800\0", code="\ud800", a=object(), b={1: 1, "1": 2}, c="x" * 100_000),
    AgentError("x", code=5),  # type: ignore[arg-type]
    RetryLater("x", retry_after=float("nan")),
]

RAISED = [error for error in ERRORS if issubclass(type(error), Exception)]


@pytest.mark.parametrize("error", ERRORS, ids=[str(number) for number, _ in enumerate(ERRORS)])
def test_every_error_becomes_a_failure_that_can_be_stored(error: BaseException) -> None:
    failure = classify(error)
    stored = orjson.dumps(failure.to_json(1))
    assert b"\\u0000" not in stored
    assert failure.message
    assert len(failure.message) <= 2000
    assert len(failure.code) <= 100
    assert failure.cause is Cause.AGENT or isinstance(error, TimeoutError | ConnectionError)
    if isinstance(error, Exception):
        assert of_agent(error).failure.cause is Cause.AGENT


def test_an_error_that_cannot_be_looked_at_is_still_a_failure() -> None:
    assert (classify(Hostile()).code, classify(Hostile()).message) == ("agent_error", "Hostile")
    assert of_agent(Hostile()).failure.message == "Hostile"
    assert describe(Hostile())["type"] == "Hostile"


def test_an_outage_is_the_agents_own_only_where_its_code_met_it() -> None:
    for error in (TimeoutError("mine"), ConnectionResetError("mine")):
        assert (classify(error).code, classify(error).cause) == ("connection_failed", Cause.PROVIDER)
        own = of_agent(error).failure
        assert (own.code, own.cause, own.message) == (
            "agent_error",
            Cause.AGENT,
            f"{type(error).__name__}: mine",
        )
    away = OperationalError("SELECT secrets", {"a": 1}, Exception("server gone"))
    assert (classify(away).code, classify(away).cause) == ("database_unavailable", Cause.INFRASTRUCTURE)
    assert of_agent(away).failure.message == "OperationalError: server gone"
    assert classify(AgentFailed(classify(Own("x")))).message == "Own: x"
    assert of_agent(ProviderError("overloaded")).failure.cause is Cause.PROVIDER
    assert of_agent(Unavailable("away")).failure.cause is Cause.INFRASTRUCTURE


@pytest.mark.parametrize("own", [True, False])
def test_no_statement_of_the_database_is_in_a_failure(own: bool) -> None:
    refused = DataError("INSERT INTO tasks", {"secret": 1}, Exception("cannot contain NUL"))
    unformed = StatementError("x", "INSERT INTO events", {}, NotJson("object has no JSON form"))
    for error in (refused, unformed):
        failure = of_agent(error).failure if own else classify(error)
        assert "INSERT" not in failure.message
        assert failure.cause is Cause.AGENT
        assert own or (failure.code, failure.retryable) == ("value_not_storable", False)


def test_details_keep_what_has_a_form() -> None:
    found = classify(AgentError("x", a=1, b=object(), c="x" * 100_000, d={1: 2})).details
    assert found["a"] == 1
    assert found["b"] == "(left out: object has no JSON form)"
    assert found["c"] == "(left out: 100,002 bytes)"
    assert found["d"] == {"1": 2}


def test_errors_of_a_group_are_counted_when_they_are_many() -> None:
    group = ExceptionGroup("many", [ValueError(str(number)) for number in range(9)])
    assert classify(group).message == (
        "ExceptionGroup: many (9 sub-exceptions): ValueError: 0; ValueError: 1; ValueError: 2; ValueError: 3; "
        "ValueError: 4; and 4 more"
    )


def test_a_cause_that_is_its_own_cause_ends() -> None:
    error = ValueError("a")
    error.__cause__ = KeyError("b")
    error.__cause__.__cause__ = error
    assert classify(error).message == "ValueError: a (caused by KeyError: 'b')"


@pytest.mark.parametrize("error", RAISED, ids=[str(number) for number, _ in enumerate(RAISED)])
def test_what_the_journal_keeps_of_an_error_can_be_stored_and_raised_again(error: Exception) -> None:
    kept = orjson.loads(orjson.dumps(describe(error)))
    again = raised_again(kept)
    assert isinstance(again, Exception)
    if not isinstance(error, ExceptionGroup):
        assert describe(again)["message"] == kept["message"]


def test_an_entry_of_an_earlier_release_is_raised_as_ever() -> None:
    assert repr(raised_again({"type": "KeyError", "message": "'x'"})) == "KeyError(\"'x'\")"
    assert raised_again({"type": "Unknown", "message": "x"}).args == ("x",)
