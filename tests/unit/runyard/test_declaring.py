"""`@agent` refuses at its declaration what would fail at each run."""

from __future__ import annotations

import functools
import runpy
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runyard import agent, authoring

if TYPE_CHECKING:
    from runyard import Context, Nowhere


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})


async def _good(ctx: Any, args: Any) -> Any:
    return args


async def _no_args(ctx: Any) -> None: ...
def _nothing() -> None: ...
async def _three(ctx: Any, args: Any, more: Any) -> None: ...
def _keywords(*, ctx: Any, args: Any) -> None: ...
async def _async_generator(ctx: Any, args: Any) -> AsyncIterator[int]:
    yield 1


def _generator(ctx: Any, args: Any) -> Iterator[int]:
    yield 1


async def _unknown(ctx: Any, args: Nowhere) -> None: ...  # fmt: skip


FUNCTIONS = [
    (_no_args, r"_no_args is called with \(ctx, args\), and takes \(ctx"),
    (_nothing, r"_nothing is called with \(ctx, args\), and takes \(\)"),
    (_three, "_three is called with"),
    (_keywords, "_keywords is called with"),
    (_async_generator, "_async_generator is a generator; return the result"),
    (_generator, "_generator is a generator"),
    (_unknown, "the type of its arguments, 'Nowhere', is not known"),
    (dict, "not the class dict"),
    (5, "not int"),
]


@pytest.mark.parametrize(("fn", "why"), FUNCTIONS, ids=lambda value: getattr(value, "__name__", None))
def test_a_function_that_no_run_could_call_is_refused(fn: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        agent("bad")(fn)
    assert authoring.registered() == {}


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"version": "not-semver"}, "version 'not-semver' is not a semantic version"),
    ({"version": "1.0"}, "is not a semantic version"),
    ({"version": 1}, "is not a semantic version"),
    ({"timeout": 0}, "timeout 0 is not a number of seconds"),
    ({"timeout": float("nan")}, "timeout nan"),
    ({"timeout": "5"}, "timeout '5'"),
    ({"timeout": True}, "timeout True"),
    ({"timeout": 10**9}, "timeout 1000000000"),
    ({"max_concurrent": 0}, "max_concurrent 0 is not"),
    ({"max_concurrent": 1.5}, "max_concurrent 1.5 is not"),
    ({"retries": -1}, "retries -1 is neither"),
    ({"retries": {"agnet": {"budget": 1}}}, "is neither a number from 0 to 1000000 nor budgets by cause"),
    ({"retries": {"agent": {"buget": 1}}}, "'buget'"),
    ({"retries": {"agent": {"budget": float("inf")}}}, "'budget'"),
    (
        {"max_concurrent": 10**30},
        "max_concurrent 1000000000000000000000000000000 is not a number of runs from 1 to",
    ),
    ({"max_concurrent": 1 << 20_000}, "max_concurrent a number of 20001 bits is not"),
    ({"timeout": 10**400}, "timeout 1000"),
    ({"retries": 10**12}, "retries 1000000000000 is neither a number from 0 to 1000000"),
    ({"retries": {"agent": {"budget": 10**30}}}, "'budget'"),
    ({"input": "order.json"}, "input must be a JSON Schema or a type, not str"),
    ({"output": ["a"]}, "output must be a JSON Schema or a type, not list"),
    (
        {"input": {"properties": {"n": {"maximum": 2**66}}}},
        "schema given as input has an integer of more than 64",
    ),
]


@pytest.mark.parametrize(("options", "why"), OPTIONS)
def test_options_that_could_not_be_published_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        agent("bad", **options)(_good)


@pytest.mark.parametrize("name", ["", "@scope", "@Scope/x", "@a/b/c", "a\0b", "x" * 200, 5, None])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="@agent"):
        agent(name)(_good)


class _Callable:
    async def __call__(self, ctx: Any, args: Any) -> Any:
        return args


def _wrapped(fn: Any) -> Any:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


async def _imported_for_checking(ctx: Context, args: dict[str, Any]) -> Any:
    return args


def test_usual_functions_are_taken() -> None:
    agent("a", retries={"provider": {"budget": 3, "base_s": 0.5}}, timeout=0.5)(_good)
    agent("b", version="1.2.3-rc.1+build.5")(_Callable())
    agent("c")(functools.partial(_three, more=1))
    agent("d")(_wrapped(_good))
    agent("e")(_imported_for_checking)
    found = authoring.registered()
    assert [d.is_async for d in found.values()] == [True, True, True, False, True]


def test_a_second_agent_of_a_name_is_refused_with_both_places() -> None:
    agent("same")(_good)
    agent("same")(_good)  # the same function: imported again
    with pytest.raises(
        ValueError, match=r"(?s)Two agents are named @default/same: _good \(.*, line \d+\) and .*<lambda> \("
    ):
        agent("same")(lambda ctx, args: _wrapped(args))


def test_a_second_adapted_agent_of_a_name_is_refused_with_both_lines() -> None:
    """An object has no line of its own: it is where it is declared, which a second one is not."""
    for _ in range(2):  # imported again
        agent("same")(_Callable())
    with pytest.raises(
        ValueError,
        match=r"Two agents .*: _Callable \(.*test_declaring.py, line (\d+)\) and .*, line (?!\1)\d+\)",
    ):
        agent("same")(_Callable())


def test_an_adapted_agent_of_a_program_may_have_a_process(tmp_path: Path) -> None:
    """It is declared at the top of the program, its class elsewhere."""
    program = tmp_path / "program.py"
    program.write_text(
        "from runyard import agent\n"
        "from tests.unit.runyard.test_declaring import _Callable\n"
        "agent('adapted', isolation='process')(_Callable())\n"
    )
    runpy.run_path(str(program), run_name="__main__")
    place = authoring.registered()["@default/adapted"].place
    assert place is not None
    assert (place.module, place.file, place.line) == ("__main__", str(program), 3)


async def _async(ctx: Any, args: Any) -> None: ...
def _plain(ctx: Any, args: Any) -> None: ...


@pytest.mark.parametrize(
    ("fn", "options", "message"),
    [
        (_async, {"isolation": "subprocess"}, "isolation 'subprocess' is none of loop, thread, process"),
        (_plain, {"isolation": "loop"}, "a plain `def` would block its worker's event loop"),
        (_async, {"memory_mb": 512}, "memory_mb needs isolation='process'"),
        (_plain, {"isolation": "thread", "cpu_seconds": 5}, "cpu_seconds needs isolation='process'"),
        (_plain, {"isolation": "process", "memory_mb": 8}, "is not a number of MiB from 64"),
        (_plain, {"isolation": "process", "memory_mb": 512.5}, "is not a number of MiB from 64"),
        (
            _plain,
            {"isolation": "process", "memory_mb": 10**30},
            "memory_mb 10+ is not a number of MiB from 64",
        ),
        (_plain, {"isolation": "process", "cpu_seconds": 0}, "is not a number of seconds above 0"),
        (_plain, {"isolation": "process", "cpu_seconds": 10**400}, "@default/isolated: cpu_seconds 1000"),
    ],
)
def test_an_isolation_that_no_run_could_have_is_refused(
    fn: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        agent("isolated", **options)(fn)
    assert authoring.registered() == {}


def test_where_a_function_runs_follows_from_its_kind_and_the_manifest_has_what_is_declared() -> None:
    agent("coroutine")(_async)
    agent("plain")(_plain)
    as_if_imported = {"agent": agent, "__name__": "authors_module"}
    code = "@agent('own', isolation='process', memory_mb=512, cpu_seconds=1.5)\nasync def own(ctx, args): ..."
    exec(code, as_if_imported)
    coroutine, plain, own = authoring.registered().values()
    assert (coroutine.runs_in, plain.runs_in, own.runs_in) == ("loop", "thread", "process")
    assert "isolation" not in coroutine.manifest
    assert [own.manifest[name] for name in ("isolation", "memory_mb", "cpu_seconds")] == ["process", 512, 1.5]


def test_an_agent_that_no_import_declares_is_refused_a_process() -> None:
    async def inner(ctx: Any, args: Any) -> None: ...

    for fn in (inner, lambda ctx, args: None):
        with pytest.raises(TypeError, match=r"@default/nested: .* Declare it at the top of a module"):
            agent("nested", isolation="process")(fn)
    agent("nested", isolation="thread")(inner)


class _OnLoop:
    only_isolation = "loop"

    async def __call__(self, ctx: Any, args: Any) -> None: ...


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_an_adapted_agent_is_refused_an_isolation_that_it_cannot_have(isolation: Any) -> None:
    agent("adapted", isolation="loop")(_OnLoop())
    with pytest.raises(TypeError, match="an agent of _OnLoop runs with isolation='loop'"):
        agent("adapted", isolation=isolation)(_OnLoop())
