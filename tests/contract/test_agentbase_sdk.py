"""The published agentbase Python client, unmodified, against a live server: synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agentbase
import pytest
from agentbase import Agentbase, AsyncAgentbase

from runyard import Context
from runyard_api.http import event_stream
from tests.api_server import Api, workers_of
from tests.contract.live import Live, unique
from tests.fakes.model_server import reply

pytestmark = pytest.mark.timeout(300)

REMEMBERS = {"agent": "remembers"}


def joined(events: list[Any]) -> str:
    return "".join(event["content"] for event in events if event["type"] == "agent_response")


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[Agentbase]:
    """The client as its readme makes it, but for the base URL."""
    with Agentbase(api_key=live.key, base_url=live.url()) as made:
        yield made


class TestSync:
    def test_events_come_one_by_one(self, client: Agentbase, live: Live) -> None:
        question = unique("by the client")
        live.model.when(question, reply("Hello from here."))

        events: list[Any] = list(client.run_agent(message=question))

        assert events[0]["type"] == "agent_started"
        assert joined(events) == "Hello from here."
        assert events[-1]["type"] == "agent_completed"

    def test_tokens_come_piece_by_piece(self, client: Agentbase, live: Live) -> None:
        question = unique("pieces")
        live.model.when(question, reply("One two three four.", piece_delay=0.02))

        events: list[Any] = list(client.run_agent(message=question, streaming_tokens=True))

        assert joined(events) == "One two three four."
        assert len([e for e in events if e["type"] == "agent_response"]) > 1

    def test_every_argument_is_taken(self, client: Agentbase, live: Live) -> None:
        question = unique("everything")
        step = unique("a step")
        live.model.when(step, reply("stepped"))
        live.model.when("Now give summary", reply('{"ok": true}'))
        live.model.when(question, reply("ok"))
        schema: dict[str, object] = {"type": "object", "properties": {"ok": {"type": "boolean"}}}

        events: list[Any] = list(
            client.run_agent(
                message=question,
                system="Be brief.",
                mode="flash",
                rules=["No jokes."],
                agents=[{"name": "Sales", "description": "Sells."}],
                workflows=[
                    {
                        "id": "w",
                        "name": "w",
                        "description": "w",
                        "steps": [{"id": "s", "name": "n", "description": step, "depends_on": []}],
                    }
                ],
                background=False,
                final_output={"name": "summary", "schema": schema, "strict": True},
                extra_body={"schedules": [{"schedule": 3600, "message": "later"}]},
            )
        )

        assert events[-1]["type"] == "agent_completed"
        assert events[0]["schedules"][0]["id"]
        [final] = [e for e in events if e["type"] == "agent_final_output"]
        assert final["content"] == {"ok": True}

    def test_a_session_goes_on(self, client: Agentbase) -> None:
        first: list[Any] = list(client.run_agent(message="one", extra_query=REMEMBERS))
        session = first[0]["session"]

        second: list[Any] = list(client.run_agent(message="two", session=session, extra_query=REMEMBERS))

        assert joined(second) == "1 before: one"
        assert second[0]["session"] == session

    def test_the_agent_resource_runs_too(self, client: Agentbase) -> None:
        events: list[Any] = list(client.agent.run(message="hi", extra_query=REMEMBERS))

        assert joined(events) == "0 before: "

    def test_messages_are_read_and_cleared(self, client: Agentbase) -> None:
        events: list[Any] = list(client.run_agent(message="hi", extra_query=REMEMBERS))
        session = events[0]["session"]

        history = client.messages.get(session=session)
        assert [(line.type, line.content) for line in history] == [
            ("user_message", "hi"),
            ("agent_response", "0 before: "),
        ]

        cleared = client.messages.clear(session=session)
        assert (cleared.success, cleared.message) == (True, "Messages cleared")
        assert client.messages.get(session=session) == []

    def test_in_the_background_one_event_has_the_ids_of_session_task_and_schedules(
        self, client: Agentbase, live: Live
    ) -> None:
        question = unique("in the background")
        schedules = {"schedules": [{"schedule": "2099-01-01", "message": "later"}]}

        events: list[Any] = list(
            client.run_agent(message=question, background=True, extra_query=REMEMBERS, extra_body=schedules)
        )

        [accepted] = events
        assert accepted["task_id"] == accepted["taskId"]
        assert live.until(accepted["taskId"])["session_id"] == accepted["session"]
        [schedule] = accepted["schedules"]
        assert live.request("DELETE", f"/api/v1/schedules/{schedule['id']}")[0] in (200, 204)

    def test_in_the_background_an_answer_to_a_question_has_the_ids_too(
        self, client: Agentbase, live: Live
    ) -> None:
        asked: list[Any] = list(client.run_agent(message="hi", extra_query={"agent": "asks"}))

        events: list[Any] = list(
            client.run_agent(message="red", session=asked[0]["session"], background=True)
        )

        assert [event["taskId"] for event in events] == [asked[0]["task_id"]]
        assert live.until(asked[0]["task_id"])["output"] == "You like red."

    def test_a_base_url_with_a_prefix_works(self, live: Live) -> None:
        with Agentbase(api_key=live.key, base_url=live.url("/agentbase")) as client:
            events: list[Any] = list(client.run_agent(message="hi", extra_query=REMEMBERS))
            history = client.messages.get(session=events[0]["session"])

        assert joined(events) == "0 before: "
        assert len(history) == 2

    def test_a_client_may_always_ask_for_an_agent_of_its_own(self, live: Live) -> None:
        with Agentbase(api_key=live.key, base_url=live.url(), default_query=REMEMBERS) as client:
            events: list[Any] = list(client.run_agent(message="hi"))

        assert joined(events) == "0 before: "

    def test_silence_longer_than_the_read_timeout_is_filled_by_comments(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_stream, "KEEP_ALIVE", 0.5)
        asyncio.run(self._open_later(tmp_path))

    @staticmethod
    async def _open_later(folder: Path) -> None:
        """The client gives up after 8 s without a byte; the agent sends nothing for 10 s."""
        go_on = asyncio.Event()

        async def gated(ctx: Context, args: dict[str, Any]) -> str:
            await go_on.wait()
            return "through"

        with Api(folder / "home") as api:
            async with (
                workers_of(api) as site,
                AsyncAgentbase(api_key=api.key, base_url=api.url, timeout=8, max_retries=0) as client,
            ):
                agent = {"agent": site.publish(gated)}
                stream = await client.run_agent(message="hi", extra_query=agent)
                asyncio.get_running_loop().call_later(10, go_on.set)
                events: list[Any] = [event async for event in stream]
        assert joined(events) == "through"

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"message": ""}, agentbase.BadRequestError),
            ({"message": "hi", "session": str(uuid.uuid4())}, agentbase.NotFoundError),
        ],
    )
    def test_refusals_become_the_clients_errors(
        self, client: Agentbase, arguments: dict[str, Any], error: type[agentbase.APIStatusError]
    ) -> None:
        with pytest.raises(error) as raised:
            list(client.run_agent(**arguments))

        assert isinstance(raised.value.body, dict)
        assert raised.value.body["error"]

    def test_keys_and_permissions_become_the_clients_errors(self, live: Live) -> None:
        with (
            Agentbase(api_key="agb_unknown", base_url=live.url()) as stranger,
            pytest.raises(agentbase.AuthenticationError),
        ):
            list(stranger.run_agent(message="hi"))
        with (
            Agentbase(api_key=live.key_of("viewer"), base_url=live.url()) as viewer,
            pytest.raises(agentbase.PermissionDeniedError),
        ):
            list(viewer.run_agent(message="hi"))

    def test_a_run_that_fails_is_reported_in_the_stream_and_not_repeated(
        self, client: Agentbase, live: Live
    ) -> None:
        before = live.request("GET", "/tasks?limit=1")[1]["data"][0]["task_id"]

        events: list[Any] = list(client.run_agent(message="hi", extra_query={"agent": "spends"}))

        assert events[-1]["type"] == "agent_error"
        newest = live.request("GET", "/tasks?limit=2")[1]["data"]
        assert [t["task_id"] for t in newest] == [events[0]["task_id"], before]

    def test_a_stream_may_be_left_early(self, client: Agentbase, live: Live, tmp_path: Path) -> None:
        barrier = tmp_path / "barrier"
        with client.run_agent(message=str(barrier), extra_query={"agent": "gated"}) as stream:
            first: Any = next(iter(stream))

        barrier.touch()
        assert live.until(first["task_id"])["output"] == "through"


class TestAsync:
    def test_in_the_background_the_ids_come_as_one_event(self, live: Live) -> None:
        async def accepted() -> list[Any]:
            async with AsyncAgentbase(api_key=live.key, base_url=live.url()) as client:
                stream = await client.run_agent(message="hi", background=True, extra_query=REMEMBERS)
                return [event async for event in stream]

        [event] = asyncio.run(accepted())

        assert live.until(event["taskId"])["status"] == "completed"

    def test_events_messages_and_errors(self, live: Live) -> None:
        question = unique("asynchronously")
        live.model.when(question, reply("Hello there."))

        async def conversation() -> None:
            async with AsyncAgentbase(api_key=live.key, base_url=live.url()) as client:
                stream = await client.run_agent(message=question, streaming_tokens=True)
                events: list[Any] = [event async for event in stream]
                assert joined(events) == "Hello there."
                session = events[0]["session"]
                history = await client.messages.get(session=session)
                assert [line.type for line in history] == ["user_message", "agent_response"]
                assert (await client.messages.clear(session=session)).success is True
                with pytest.raises(agentbase.NotFoundError):
                    await client.messages.get(session=str(uuid.uuid4()))

        asyncio.run(conversation())

    def test_twenty_conversations_at_once_keep_apart(self, live: Live) -> None:
        async def one(client: AsyncAgentbase, number: int) -> str:
            first: list[Any] = [
                e async for e in await client.run_agent(message=f"n{number}", extra_query=REMEMBERS)
            ]
            session = first[0]["session"]
            again = await client.run_agent(message="again", session=session, extra_query=REMEMBERS)
            return joined([event async for event in again])

        async def all_of_them() -> list[str]:
            async with AsyncAgentbase(api_key=live.key, base_url=live.url()) as client:
                return await asyncio.gather(*(one(client, number) for number in range(20)))

        assert asyncio.run(all_of_them()) == [f"1 before: n{number}" for number in range(20)]
