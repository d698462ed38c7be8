"""Which providers' clients an agent's code names, as far as its module shows."""

from __future__ import annotations

from typing import Any

from runyard import agent
from runyard.authoring import definition_of
from runyard.context import Context


class _Summaries:
    def __init__(self, ctx: Context) -> None:
        self.client = ctx.client("anthropic")


@agent("@named/plain")
async def plain(ctx: Context, args: dict[str, Any]) -> str:
    """Names no client itself; a class of its module does."""
    return str(_Summaries(ctx))


@agent("@named/elsewhere")
async def elsewhere(ctx: Context, args: dict[str, Any]) -> str:
    """Declared as if in a module that names none."""
    return "openai"


elsewhere.__module__ = "colorsys"


def test_a_client_that_a_function_or_class_of_the_module_names_is_found() -> None:
    definition = definition_of(plain)
    assert definition is not None
    assert definition.clients == ("anthropic",)


def test_the_name_of_a_vendor_without_a_client_is_none() -> None:
    definition = definition_of(elsewhere)
    assert definition is not None
    assert definition.clients == ()
