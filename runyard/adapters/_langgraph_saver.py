"""LangGraph's checkpoints in the journal of a run: a checkpoint saver over a `CheckpointLog`.

Two kinds of entries: `put` has a checkpoint with the channels that changed, `writes` has what one node has written. In
memory there is only the index of them; LangGraph reads values when a graph or subgraph starts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)

from runyard.checkpoints import CheckpointEntry, CheckpointLog, PastCheckpoints

T = TypeVar("T")
#: A thread and a namespace in it: "" is the graph itself, others are its subgraphs.
Scope = tuple[str, str]


@dataclass
class _Index:
    """Where the entries are: everything but the values."""

    checkpoints: dict[Scope, dict[str, CheckpointEntry]] = field(default_factory=lambda: defaultdict(dict))
    blobs: dict[tuple[Scope, str, str], int] = field(default_factory=dict)
    writes: dict[tuple[Scope, str], list[CheckpointEntry]] = field(default_factory=lambda: defaultdict(list))

    def add(self, entry: CheckpointEntry) -> None:
        about = entry.about
        if about.get("kind") not in ("put", "writes"):
            return
        scope = about["thread"], about["ns"]
        if about["kind"] == "writes":
            self.writes[scope, about["id"]].append(entry)
            return
        self.checkpoints[scope][about["id"]] = entry
        for channel, version in about["versions"].items():
            self.blobs[scope, channel, version] = entry.number


class SavedThread:
    """Checkpoints as a log has them. Reads only."""

    def __init__(self, log: PastCheckpoints, serde: Any) -> None:
        self._log = log
        self._serde = serde
        self._index = _Index()
        for entry in log.entries:
            self._index.add(entry)

    @property
    def started(self) -> bool:
        """Whether there is a state of the graph itself."""
        return any(ns == "" for _, ns in self._index.checkpoints)

    @property
    def thread_id(self) -> str | None:
        """The thread that the log is of."""
        return next((e.about["thread"] for e in self._log.entries if "thread" in e.about), None)

    def namespaces(self, thread: str) -> list[str]:
        """The namespaces of the thread that have checkpoints."""
        return [ns for of, ns in self._index.checkpoints if of == thread]

    async def tuple_of(self, thread: str, ns: str, id_: str | None = None) -> CheckpointTuple | None:
        """A checkpoint with its pending writes; without an id the latest."""
        stored = self._index.checkpoints.get((thread, ns))
        if not stored or (id_ is not None and id_ not in stored):
            return None
        id_ = id_ or max(stored)
        value = await self._log.read(stored[id_].number)
        checkpoint = self._load(value["checkpoint"])
        checkpoint["channel_values"] = await self._values(
            (thread, ns), checkpoint["channel_versions"], stored[id_], value
        )
        parent = stored[id_].about.get("parent")
        return CheckpointTuple(
            config=_config(thread, ns, id_),
            checkpoint=cast(Checkpoint, checkpoint),
            metadata=self._load(value["metadata"]),
            parent_config=_config(thread, ns, parent) if parent else None,
            pending_writes=await self._writes((thread, ns), id_),
        )

    async def _values(
        self, scope: Scope, versions: Mapping[str, Any], own: CheckpointEntry, value: Any
    ) -> dict[str, Any]:
        blobs: dict[int, Any] = {own.number: value["blobs"]}
        found: dict[str, Any] = {}
        for channel, version in versions.items():
            number = self._index.blobs.get((scope, channel, version))
            if number is None:
                continue
            if number not in blobs:
                blobs[number] = (await self._log.read(number))["blobs"]
            if channel in blobs[number]:
                found[channel] = self._load(blobs[number][channel])
        return found

    async def _writes(self, scope: Scope, id_: str) -> list[tuple[str, str, Any]]:
        found: dict[tuple[str, int], tuple[str, str, Any]] = {}
        for entry in self._index.writes.get((scope, id_), ()):
            task, path = entry.about["task"], entry.about["path"]
            for index, channel, typed in (await self._log.read(entry.number))["writes"]:
                if (
                    index < 0 or (task, index) not in found
                ):  # errors, interrupts and answers replace earlier ones
                    found[task, index] = (path, channel, typed)
        ordered = sorted(found, key=lambda at: writes_sort_key(found[at][0], *at))
        return [(at[0], found[at][1], self._load(found[at][2])) for at in ordered]

    def _load(self, typed: Sequence[str]) -> Any:
        return self._serde.loads_typed((typed[0], base64.b64decode(typed[1])))

    def _dump(self, value: Any) -> list[str]:
        kind, data = self._serde.dumps_typed(value)
        return [kind, base64.b64encode(data).decode()]


class JournalSaver(BaseCheckpointSaver[str]):
    """The checkpoint saver of one run. `on_writes` gives the events and the turns that belong to a node's writes."""

    def __init__(
        self,
        log: CheckpointLog,
        *,
        serde: Any,
        on_writes: Callable[..., Mapping[str, Any]],
        on_put: Callable[[], None],
    ) -> None:
        super().__init__(serde=serde)
        self._log = log
        self.thread = SavedThread(log, self.serde)
        self._on_writes, self._on_put = on_writes, on_put
        self._writing: set[asyncio.Task[Any]] | None = set()  # None: the run leaves
        self._loop = asyncio.get_running_loop()

    def abandon(self) -> None:
        """Wait for no write: the run leaves."""
        writing, self._writing = self._writing or set(), None
        for task in writing:
            task.cancel()

    async def _write(self, about: Mapping[str, Any], value: Any, **more: Any) -> None:
        task, writing = asyncio.current_task(), self._writing
        if writing is None or task is None:
            raise asyncio.CancelledError
        writing.add(task)
        try:
            number = await self._log.write(about, value, **more)
        finally:
            writing.discard(task)
        self.thread._index.add(CheckpointEntry(number, about))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Versions grow as text; two branches of a thread do not give the same one."""
        number = 0 if current is None else int(current.partition(".")[0])
        return f"{number + 1:012}.{random.getrandbits(32):08x}"

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `BaseCheckpointSaver`."""
        at = config["configurable"]
        return await self.thread.tuple_of(
            at["thread_id"], at.get("checkpoint_ns", ""), get_checkpoint_id(config)
        )

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """See `BaseCheckpointSaver`."""
        at = (config or {}).get("configurable", {})
        bound = get_checkpoint_id(before) if before else None
        for (thread, ns), stored in list(self.thread._index.checkpoints.items()):
            if thread != at.get("thread_id", thread) or ns != at.get("checkpoint_ns", ns):
                continue
            for id_ in sorted(stored, reverse=True):
                if (bound and id_ >= bound) or at.get("checkpoint_id", id_) not in (id_, None):
                    continue
                found = await self.thread.tuple_of(thread, ns, id_)
                assert found is not None
                if filter and any(found.metadata.get(key) != wanted for key, wanted in filter.items()):
                    continue
                if limit is not None and limit <= 0:
                    return
                limit = None if limit is None else limit - 1
                yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `BaseCheckpointSaver`."""
        at = config["configurable"]
        thread, ns = at["thread_id"], at.get("checkpoint_ns", "")
        await self._put(
            thread,
            ns,
            at.get("checkpoint_id"),
            checkpoint,
            get_checkpoint_metadata(config, metadata),
            new_versions,
        )
        self._on_put()
        return _config(thread, ns, checkpoint["id"])

    async def copy(self, past: SavedThread, thread: str) -> None:
        """Take over the last state of an earlier run's thread, of the graph and of subgraphs that keep theirs."""
        of = past.thread_id or thread
        for ns in sorted(
            past.namespaces(of), reverse=True
        ):  # the graph's own last: with it the copy is complete
            found = (
                None if ":" in ns else await past.tuple_of(of, ns)
            )  # others belong to one call of a subgraph
            if found is not None:
                versions = found.checkpoint["channel_versions"]
                await self._put(thread, ns, None, found.checkpoint, found.metadata, versions, seed=True)

    async def _put(
        self,
        thread: str,
        ns: str,
        parent: str | None,
        checkpoint: Checkpoint,
        metadata: Any,
        versions: ChannelVersions,
        **more: Any,
    ) -> None:
        kept = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        changed = {
            name: checkpoint["channel_values"][name]
            for name in versions
            if name in checkpoint["channel_values"]
        }
        about = {
            "kind": "put", "thread": thread, "ns": ns, "id": checkpoint["id"], "parent": parent,
            "versions": dict(versions), **more,
        }  # fmt: skip
        if writing := (self._writing or set()) - {asyncio.current_task()}:
            # A checkpoint is committed after what led to it: it alone would leave out their events and usage.
            done, _ = await asyncio.wait(writing)
            for task in done:
                task.result()
        dump = self.thread._dump
        value = {
            "checkpoint": dump(kept),
            "metadata": dump(metadata),
            "blobs": {name: dump(value) for name, value in changed.items()},
        }
        await self._write(about, value)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """See `BaseCheckpointSaver`."""
        at = config["configurable"]
        about = {
            "kind": "writes", "thread": at["thread_id"], "ns": at.get("checkpoint_ns", ""),
            "id": at["checkpoint_id"], "task": task_id, "path": task_path,
        }  # fmt: skip
        dump = self.thread._dump
        listed = [
            [WRITES_IDX_MAP.get(channel, index), channel, dump(value)]
            for index, (channel, value) in enumerate(writes)
        ]
        more = self._on_writes(task_id, task_path, writes)
        # An interrupt is raised again each time its node runs again.
        if all(channel in WRITES_IDX_MAP for channel, _ in writes):
            about["digest"] = hashlib.blake2s(json.dumps(listed).encode(), digest_size=16).hexdigest()
            stored = self.thread._index.writes.get(((about["thread"], about["ns"]), about["id"]), ())
            last = next((e.about for e in reversed(stored) if e.about["task"] == task_id), {})
            if last.get("digest") == about["digest"] and not more["turns"]:
                return
        await self._write(about, {"writes": listed}, **more)

    # -- from threads: a plain node that calls a graph in turn ------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `BaseCheckpointSaver`."""
        return self._wait(self.aget_tuple(config))

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        """See `BaseCheckpointSaver`."""

        async def every() -> Sequence[CheckpointTuple]:
            return [found async for found in self.alist(config, **options)]

        yield from self._wait(every())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `BaseCheckpointSaver`."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """See `BaseCheckpointSaver`."""
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            call.close()
            raise RuntimeError(
                "An async node calls a graph with invoke() or stream(): use ainvoke() or astream()."
            )
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


def _config(thread: str, ns: str, id_: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id_}}
