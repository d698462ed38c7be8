"""The HTTP server of the local model: POST /v1/chat/completions and GET /v1/models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from runyard_launch.localmodel import wire
from runyard_launch.localmodel.completion import BadCompletion, Completion, Ending, Model


class Generation:
    """One running completion: an async iterator of text, which stops the model when it is closed early."""

    def __init__(self, model: Model, completion: Completion) -> None:
        self._model, self._completion = model, completion
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._wanted = True
        self.ending: Ending | None = None

    async def pieces(self) -> AsyncGenerator[str]:
        """Text as it comes; `ending` is set once this is exhausted. `BadCompletion` if the model refuses."""
        work = asyncio.create_task(asyncio.to_thread(self._run))
        try:
            while (piece := await self._pieces.get()) is not None:
                yield piece
            self.ending = await work
        finally:
            self._wanted = False
            if not work.done():
                with contextlib.suppress(BadCompletion):
                    await asyncio.shield(work)  # it stops at its next token; its slot is free only then

    def _run(self) -> Ending:
        try:
            return self._model.complete(self._completion, self._receive)
        finally:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, None)

    def _receive(self, text: str) -> bool:
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, text)
        return self._wanted


class Chats:
    """The chat completions endpoint; `at_once` requests run, the others wait their turn."""

    def __init__(self, model: Model, at_once: int) -> None:
        self._model = model
        self._turns = asyncio.Semaphore(at_once)

    async def models(self, _request: Request) -> Response:
        """GET /v1/models."""
        entry = {"id": self._model.name, "object": "model", "created": 0, "owned_by": "runyard"}
        return JSONResponse({"object": "list", "data": [entry]})

    async def create(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        try:
            chat = wire.parse(await request.json())
        except BadCompletion as problem:
            return JSONResponse(wire.error(str(problem), problem.code), 400)
        except ValueError:
            return JSONResponse(wire.error("The body is not JSON"), 400)
        try:
            return await _unless_disconnected(
                request, self._streamed(chat) if chat.stream else self._whole(chat)
            )
        except BadCompletion as problem:
            return JSONResponse(wire.error(str(problem), problem.code), 400)

    async def _streamed(self, chat: wire.Chat) -> Response:
        """A stream begins once the model does, so that a refusal is still a plain 400."""
        events = self._events(chat)
        first = await anext(events)

        async def all_events() -> AsyncIterator[str]:
            async with contextlib.aclosing(events):
                yield first
                async for event in events:
                    yield event

        return StreamingResponse(all_events(), media_type="text/event-stream")

    async def _whole(self, chat: wire.Chat) -> Response:
        async with self._turns:
            generation = Generation(self._model, chat.completion)
            async with contextlib.aclosing(generation.pieces()) as pieces:
                text = "".join([piece async for piece in pieces])
        assert generation.ending
        return JSONResponse(wire.Answer(self._model.name).whole(chat.read(text), generation.ending))

    async def _events(self, chat: wire.Chat) -> AsyncGenerator[str]:
        answer = wire.Answer(self._model.name)
        sent: list[str] = []
        async with self._turns:
            generation = Generation(self._model, chat.completion)
            async with contextlib.aclosing(generation.pieces()) as pieces:
                async for piece in pieces:
                    if not chat.choice:
                        yield (
                            answer.piece(chat, piece)
                            if sent
                            else answer.begin(chat) + answer.piece(chat, piece)
                        )
                    sent.append(piece)
        assert generation.ending
        reply = chat.read("".join(sent))
        if chat.choice:
            yield answer.reply(reply)
        yield answer.end(reply, generation.ending, chat.include_usage)


async def _unless_disconnected(request: Request, work: Awaitable[Response]) -> Response:
    """Await `work`, but give it up as soon as the client hangs up: a cancelled run's answer has no reader."""
    working = asyncio.ensure_future(work)
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.wait({working})
        return Response(status_code=499)
    finally:
        gone.cancel()


async def _disconnect(request: Request) -> None:
    receive: Callable[[], Awaitable[Any]] = request.receive
    while (await receive())["type"] != "http.disconnect":
        pass


def application(model: Model, at_once: int) -> Starlette:
    """The ASGI application."""
    chats = Chats(model, at_once)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", chats.create, methods=["POST"]),
            Route("/v1/models", chats.models, methods=["GET"]),
        ]
    )
