"""HTTP transports whose calls of a model are model turns of the run: answered from the journal where it has them.

A stream is given to the code as it comes, and is on record before the code sees its end.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import httpx2

from runyard import branches
from runyard.adapters._exchange import Answer, Exchange, Refused
from runyard.context import BlockingContext, Context
from runyard.errors import FAILURE, AgentError
from runyard.turns import STAND_INS, ModelTurn


class _Call:
    """What both kinds of transports do with one exchange."""

    def __init__(self, exchange: Exchange, request: httpx2.Request) -> None:
        self.exchange = exchange
        self._request = request
        self._met: Exception | None = None  # what the call itself met, as the client knows it

    def met(self, error: Exception) -> Exception:
        """Note a failure of the call."""
        self._met = error
        if isinstance(error, httpx2.TransportError):
            error.met = {"error": type(error).__name__, "message": str(error)}  # type: ignore[attr-defined]
        return error

    def failed(self, failure: AgentError) -> httpx2.Response:
        """The client gets what it would without a journal: the answer, or the error of its HTTP library. So it does
        on a replay, where the journal has what the call met."""
        self._request.extensions[FAILURE] = failure
        if isinstance(self._met, Refused):
            return self._met.answer.response()
        if self._met is not None:
            raise self._met from failure
        met: Mapping[str, Any] = getattr(failure, "met", None) or {}
        if "status" in met:
            return Answer.unpacked(met).response()
        kind = getattr(httpx2, str(met.get("error")), None)
        if isinstance(kind, type) and issubclass(kind, httpx2.TransportError):
            raise kind(met["message"], request=self._request) from failure
        raise failure


class JournaledTransport(httpx2.AsyncBaseTransport):
    """For clients in `async def` agents. `inner` makes the calls."""

    def __init__(self, ctx: Context, vendor: str, inner: Callable[[], httpx2.AsyncClient]) -> None:
        self._ctx, self._vendor, self._inner = ctx, vendor, inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        exchange = Exchange.of(self._vendor, request, await request.aread())
        if exchange is None:
            return await self._inner().send(request, stream=True)
        call = _Call(exchange, request)
        begun: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        turn = asyncio.create_task(self._turn(call, begun, pieces))
        STAND_INS.add(turn)
        turn.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            await asyncio.wait({turn, begun}, return_when=asyncio.FIRST_COMPLETED)
            if begun.done():
                return begun.result().response(_Pieces(turn, pieces, call))
            return Answer.unpacked(await turn).response()
        except AgentError as failure:
            return call.failed(failure)
        except asyncio.CancelledError:
            turn.cancel()
            raise

    async def _turn(
        self, call: _Call, begun: asyncio.Future[Answer], pieces: asyncio.Queue[bytes | None]
    ) -> Any:
        asked = call.exchange.asked
        ask = partial(self._ask, call, begun, pieces)  # known as a coroutine's function: it takes no thread
        return await self._ctx.model_turn(self._vendor, ask, asked=asked)

    async def _ask(
        self, call: _Call, begun: asyncio.Future[Answer], pieces: asyncio.Queue[bytes | None]
    ) -> ModelTurn:
        exchange, shown = call.exchange, bytearray()
        try:
            response = await self._inner().send(exchange.request, stream=True)
            try:
                answer = Answer.begun(response)
                if not response.is_success:
                    body = await response.aread()
                    raise Refused(Answer(answer.status, answer.headers, body), exchange.model)
                if answer.is_stream:
                    begun.set_result(answer)
                async for piece in response.aiter_bytes():
                    shown += (given := exchange.feed(piece))
                    pieces.put_nowait(given)
                shown += (given := exchange.rest())
                pieces.put_nowait(given)
            finally:
                await response.aclose()
        except Exception as error:  # noqa: BLE001 - the client gets it as it is
            raise call.met(error) from None
        return exchange.turn(answer, bytes(shown))


class _Pieces(httpx2.AsyncByteStream):
    """A body as it comes. It ends once its turn is on record."""

    def __init__(self, turn: asyncio.Task[Any], pieces: asyncio.Queue[bytes | None], call: _Call) -> None:
        self._turn, self._pieces, self._call = turn, pieces, call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            if piece:
                yield piece
        try:
            await self._turn
        except AgentError as failure:
            self._call.failed(failure)

    async def aclose(self) -> None:
        """A body that is not read to its end is recorded all the same: a replay gives the whole of it."""
        try:
            await asyncio.wait({self._turn})
        except asyncio.CancelledError:
            self._turn.cancel()
            raise


class BlockingJournaledTransport(httpx2.BaseTransport):
    """For clients in plain `def` agents."""

    def __init__(self, ctx: BlockingContext, vendor: str, inner: Callable[[], httpx2.Client]) -> None:
        self._ctx, self._vendor, self._inner = ctx, vendor, inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        exchange = Exchange.of(self._vendor, request, request.read())
        if exchange is None:
            return self._inner().send(request, stream=True)
        call = _Call(exchange, request)
        pieces: queue.SimpleQueue[Answer | bytes | _Turn] = queue.SimpleQueue()
        asked = exchange.asked
        turn = _Turn(
            lambda: self._ctx.model_turn(self._vendor, lambda: self._ask(call, pieces), asked=asked), pieces
        )
        first = pieces.get()
        if isinstance(first, Answer):
            return first.response(_BlockingPieces(turn, pieces, call))
        try:
            return Answer.unpacked(turn.result()).response()
        except AgentError as failure:
            return call.failed(failure)

    def _ask(self, call: _Call, pieces: queue.SimpleQueue[Any]) -> ModelTurn:
        exchange, shown = call.exchange, bytearray()
        try:
            response = self._inner().send(exchange.request, stream=True)
            try:
                answer = Answer.begun(response)
                if not response.is_success:
                    raise Refused(Answer(answer.status, answer.headers, response.read()), exchange.model)
                live = answer.is_stream
                if live:
                    pieces.put(answer)
                for piece in response.iter_bytes():
                    shown += (given := exchange.feed(piece))
                    if live:
                        pieces.put(given)
                shown += (given := exchange.rest())
                if live:
                    pieces.put(given)
            finally:
                response.close()
        except Exception as error:  # noqa: BLE001 - the client gets it as it is
            raise call.met(error) from None
        return exchange.turn(answer, bytes(shown))


class _Turn:
    """A model turn in a thread of its own, while the agent's own thread reads what it gives."""

    def __init__(self, turn: Callable[[], Any], pieces: queue.SimpleQueue[Any]) -> None:
        self._turn, self._pieces = turn, pieces
        self._value: Any = None
        self._error: BaseException | None = None
        self._branched = branches.branched()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), daemon=True)
        self._thread.start()

    def _work(self) -> None:
        if not self._branched:
            branches.begin()  # this thread makes a call of the code that waits for it
        try:
            self._value = self._turn()
        except BaseException as error:  # noqa: BLE001 - raised in the agent's own thread
            self._error = error
        self._pieces.put(self)

    def wait(self) -> None:
        """Return once the turn has ended."""
        self._thread.join()

    def result(self) -> Any:
        """What the turn gave, once it has ended, or raises."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value


class _BlockingPieces(httpx2.SyncByteStream):
    """As `_Pieces`."""

    def __init__(self, turn: _Turn, pieces: queue.SimpleQueue[Any], call: _Call) -> None:
        self._turn, self._pieces, self._call = turn, pieces, call

    def __iter__(self) -> Iterator[bytes]:
        while isinstance(piece := self._pieces.get(), bytes):
            if piece:
                yield piece
        try:
            self._turn.result()
        except AgentError as failure:
            self._call.failed(failure)

    def close(self) -> None:
        """As `_Pieces.aclose`."""
        self._turn.wait()
