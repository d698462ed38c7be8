"""Pages of the native API, read one after another as far as a command shows them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from runyard_launch.cli.remote import ask

if TYPE_CHECKING:
    from runyard import Client

#: A page's rows at most.
_PAGE = 100

Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


def rows(client: Client, path: str, limit: int, **params: Any) -> list[dict[str, Any]]:
    """The first rows of a list, at most `limit`. Parameters that are None are not sent."""
    given = {name: value for name, value in params.items() if value is not None}
    return list(islice(_pages(client, path, min(limit, _PAGE), given), limit))


def _pages(client: Client, path: str, size: int, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    page = ask(client, "GET", path, limit=size, **params)
    yield from page["data"]
    while page.get("has_more"):
        page = ask(client, "GET", path, limit=size, cursor=page["next_cursor"], **params)
        yield from page["data"]


def at(path: str, *names: str) -> str:
    """A path with these names in it, written as a URL needs them: ``at("/limits/{}", limit_id)``."""
    return path.format(*(quote(name, safe="") for name in names))
