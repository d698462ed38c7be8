"""The tree of routes finds what Starlette's router would."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from runyard_api.app import routes_of
from runyard_api.fronts import operations
from runyard_api.http.route_tree import RouteTree

ROUTES = routes_of(operations())
_VALUES = ("01890000-0000-7000-8000-000000000001", "@scope/name", "cancel", "x")


def scope_of(path: str) -> Scope:
    return {"type": "http", "method": "GET", "path": path, "root_path": ""}


def first_match(routes: list[BaseRoute], path: str) -> BaseRoute | None:
    return next((route for route in routes if route.matches(scope_of(path))[0] is Match.FULL), None)


def paths() -> Iterator[str]:
    """Of every route, with several values in its placeholders; beside these what no route has."""
    for route in ROUTES:
        assert isinstance(route, Route)
        for value in _VALUES:
            path = re.sub(r"\{[^}]*\}", value, route.path)
            yield from (path, f"{path}/", f"{path}/more", path.upper())
    yield from ("/", "//", "/api", "/api/v1/none", "/tasks//events", "/none")


def test_every_path_has_the_route_that_a_look_at_each_route_finds() -> None:
    tree = RouteTree(ROUTES)
    for path in paths():
        found = tree.find(scope_of(path))
        assert (found and found[0]) is first_match(ROUTES, path), path


def test_the_values_of_placeholders_come_with_the_route() -> None:
    found = RouteTree(ROUTES).find(scope_of("/api/v1/tasks/some-id/events"))
    assert found is not None
    assert found[1]["path_params"] == {"task_id": "some-id"}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_routes_that_match_the_first_in_the_list_is_found(order: int) -> None:
    async def page(_request: object) -> None: ...

    both = Route("/tasks/{id}", page), Route("/tasks/cancel", page)
    routes: list[BaseRoute] = [*both[::order]]
    found = RouteTree(routes).find(scope_of("/tasks/cancel"))
    assert found is not None
    assert found[0] is routes[0]


def test_a_route_of_another_method_is_passed_over() -> None:
    async def page(_request: object) -> None: ...

    routes: list[BaseRoute] = [Route("/a", page, methods=["POST"]), Route("/a", page, methods=["GET"])]
    found = RouteTree(routes).find(scope_of("/a"))
    assert found is not None
    assert found[0] is routes[1]
