"""Which providers' clients an agent's code asks for, and their import ahead of it.

A provider's library takes up to seconds to import. `ctx.client` is a plain call: on an event loop it would stop every
run of its worker for as long.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, Final

#: What a client needs by its first call: the libraries import parts of themselves when they are used.
_MODULES: Final = {
    "openai": ("runyard.adapters.clients", "openai", "openai.resources.chat", "openai.resources.responses"),
    "anthropic": ("runyard.adapters.clients", "anthropic", "anthropic.resources"),
}


def named_clients(fn: Callable[..., Any]) -> tuple[str, ...]:
    """The vendors whose clients `fn`, or a function beside it in its module, asks for by a literal name."""
    inner = inspect.unwrap(fn)
    module = sys.modules.get(getattr(inner, "__module__", None) or "")
    members = [inner, *(list(vars(module).values()) if module is not None else ())]
    members += [one for kind in members if isinstance(kind, type) for one in vars(kind).values()]
    codes = [one.__code__ for one in map(_unwrapped, members) if isinstance(one, FunctionType)]
    inside = [each for code in codes for each in _with_nested(code) if "client" in each.co_names]
    return tuple(vendor for vendor in _MODULES if any(vendor in code.co_consts for code in inside))


def import_clients(vendors: Sequence[str]) -> None:
    """Import what these clients need. What cannot be imported is for the call that asks for it to report."""
    for vendor in vendors:
        for module in _MODULES[vendor]:
            with suppress(Exception):
                import_module(module)


def _unwrapped(value: Any) -> Any:
    # Of functions only: a proxy may answer to every name, or raise.
    return inspect.unwrap(value) if isinstance(value, FunctionType) else value


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_nested(constant)
