"""Loading agents: what breaks is named with its place, and the others work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard import authoring
from runyard.tools import registered_tools
from runyard_common.values.errors import ConfigurationError
from runyard_workers.agent_code.catalogue import load, load_each

GOOD = 'from runyard import agent\n\n@agent("@cat/{name}")\nasync def {name}(ctx, args):\n    return 1\n'

DECLARED = "from runyard import agent\n\n@agent('s'{options})\ndef s({args}): ...\n"


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})


def _file(folder: Path, name: str, text: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


BROKEN = [
    ("exits.py", "import sys\n\nsys.exit('bye')\n", "exits.py (exits.py, line 3): SystemExit: the code ended its"),
    ("raises.py", "\n1 / 0\n", "raises.py (raises.py, line 2): ZeroDivisionError: division by zero"),
    ("wrong.py", "def x(:\n", "SyntaxError"),
    ("needs.py", "import no_such_dependency\n", "No module named 'no_such_dependency'"),
    ("own.py", "raise BaseException('mine')\n", "BaseException: mine"),
    ("tab.yaml", "name: x\nconfig:\n\ta: 1\n", "tab.yaml, line 3, column 1: found character '\\t'"),
    ("open.yaml", "name: nothing at all: [", "open.yaml, line 1, column 21: mapping values are not allowed here."),
    ("two.yaml", "name: a\n---\nname: b\n", "two.yaml, line 2, column 1: but found another document."),
    ("latin.yaml", b"name: x\ninstructions: caf\xe9\n", "latin.yaml, line 2: not UTF-8 (byte 0xe9)."),
    ("nul.yaml", "name: x\0\n", "nul.yaml: a character that YAML does not allow"),
    ("list.json", "[1]", "list.json: "),
    ("field.yaml", "name: x\nnane: y\n", "field.yaml: nane: "),
    ("schema.yaml", "name: x\ninput: {schema: {type: objekt}}\n", "schema.yaml: "),
    ("pschema.py", DECLARED.format(options=", input={'type': 'objekt'}", args="ctx, args"), "pschema.py, line 3"),
    ("twice.py", GOOD.format(name="dup") + GOOD.format(name="dup"), "Two agents are named @cat/dup: dup ("),
    ("signature.py", DECLARED.format(options="", args="ctx"), "line 3): TypeError: @agent @default/s"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "why"), BROKEN, ids=[row[0] for row in BROKEN])
def test_what_breaks_is_named_in_one_line_and_the_others_work(
    tmp_path: Path, name: str, text: str | bytes, why: str
) -> None:
    _file(tmp_path, name, text)
    _file(tmp_path, "a_good.py", GOOD.format(name="good"))
    _file(tmp_path, "z_good.yaml", "name: '@cat/declared'\n")
    loaded = load_each([str(tmp_path)])
    assert list(loaded.definitions) == ["@cat/good@1.0.0"]
    assert [manifest.name for manifest in loaded.manifests] == ["@cat/declared"]
    (broken,) = loaded.broken
    assert why in broken
    assert str(tmp_path / name) in broken
    assert "\n" not in broken
    with pytest.raises(ConfigurationError, match="RUNYARD_AGENTS: "):
        load([str(tmp_path / name)])


def test_a_module_that_breaks_half_way_leaves_no_agent_behind(tmp_path: Path) -> None:
    file = _file(tmp_path, "half.py", GOOD.format(name="half") + "\n1 / 0\n")
    assert load_each([str(file)]).definitions == {}


def test_a_source_without_agents_is_named_with_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "folder" / "within").mkdir(parents=True)
    _file(tmp_path, "folder/within/cat_deep.py", GOOD.format(name="deep"))
    _file(tmp_path, "folder/_private.py", GOOD.format(name="private"))
    plain = _file(tmp_path, "cat_plain.py", "x = 1\n")
    broken = _file(tmp_path, "cat_broken.py", "1 / 0\n")
    tools = _file(
        tmp_path, "cat_tools.py", "from runyard.tools import tool\n@tool()\ndef cat_tool() -> None: ...\n"
    )
    folder = str(tmp_path / "folder")
    sources = [folder, str(plain), str(broken), str(tools), f"{folder}/within"]
    first, second = load_each(sources).empty
    assert first.startswith(
        f"{folder}: the top level of this folder holds no agent and no tool. Looked for: Python"
    )
    assert second == f"{plain}: nothing in it is declared with @agent or @tool."
    assert load_each([f"{folder}/within"]).empty == [], "it is imported already"


def test_a_tool_needs_no_parentheses(tmp_path: Path) -> None:
    source = "from runyard.tools import tool\n@tool\ndef cat_bare(n: int) -> int:\n    'Doubles.'\n    return 2 * n\n"
    load_each([str(_file(tmp_path, "cat_bare.py", source))])
    found = registered_tools()["cat_bare"]
    assert (found.description, found.fn(4)) == ("Doubles.", 8)


def test_a_source_that_does_not_exist_stops_the_start(tmp_path: Path) -> None:
    missing = ("no_such_module_anywhere", str(tmp_path / "missing.yaml"), "common.no_such_part")
    for source in (*missing, "./nope", "../nope", "./agents/nope.py", "", " ", "a..b"):
        with pytest.raises(ConfigurationError, match="there is no module, file or folder"):
            load_each([source])


def test_agents_of_one_name_in_two_files_are_named_with_both_places(tmp_path: Path) -> None:
    _file(tmp_path, "a.py", GOOD.format(name="dup"))
    _file(tmp_path, "b.py", "\n" + GOOD.format(name="dup"))
    _file(tmp_path, "c.yaml", "name: '@cat/dup'\n")
    _file(tmp_path, "d.yaml", "name: '@cat/other'\n")
    _file(tmp_path, "e.yaml", "name: '@cat/other'\ninstructions: Others.\n")
    _file(tmp_path, "f.yaml", "name: '@cat/other'\nversion: 2.0.0\n")
    loaded = load_each([str(tmp_path)])
    code, manifest, second = loaded.broken
    assert "a.py, line 3" in code
    assert "b.py, line 4" in code
    assert "c.yaml: @cat/dup 1.0.0 is declared in dup (" in manifest
    assert "e.yaml: @cat/other 1.0.0 is declared in " in second
    assert [m.version for m in loaded.manifests] == ["1.0.0", "2.0.0"]


def test_a_module_may_be_imported_again_edited_and_reloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = _file(tmp_path, "cat_reloaded.py", GOOD.format(name="again"))
    load_each(["cat_reloaded"])
    load_each([str(file)])  # the same code by another module name
    file.write_text("# edited: everything is a line lower\n\n\n" + GOOD.format(name="again"))
    importlib.invalidate_caches()
    importlib.reload(sys.modules["cat_reloaded"])
    place = authoring.registered()["@cat/again"].place
    assert place is not None
    assert place.line == 6
    del sys.modules["cat_reloaded"]


IMPORTS = """from runyard import agent
from .helper import word
from catproj_common import NAME

import catproj_agents.helper

@agent("@cat/{name}")
async def {name}(ctx, args):
    return [word, NAME, catproj_agents.helper.word is word]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of an author, which the process is started in."""
    (tmp_path / "catproj_agents").mkdir()
    (tmp_path / "catproj_common").mkdir()
    _file(tmp_path, "catproj_common/__init__.py", "NAME = 'of the project'\n")
    _file(tmp_path, "catproj_agents/__init__.py", "")
    _file(tmp_path, "catproj_agents/helper.py", "word = object()\n")
    _file(tmp_path, "catproj_agents/quotes.py", IMPORTS.format(name="quotes"))
    (tmp_path / "catproj_bots").mkdir()
    _file(tmp_path, "catproj_bots/cat_sibling.py", "KIND = 'sibling'\n")
    text = "from catproj_bots.cat_sibling import KIND\nfrom catproj_common import NAME\n"
    _file(tmp_path, "catproj_bots/returns.py", text + GOOD.format(name="returns"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    "source", ["catproj_agents", "catproj_agents.quotes", "catproj_agents/quotes.py", "{}/catproj_agents"]
)
def test_a_package_is_imported_by_its_own_name_however_it_is_given(project: Path, source: str) -> None:
    loaded = load_each([source.format(project)])
    assert loaded.broken == []
    assert list(loaded.definitions) == ["@cat/quotes@1.0.0"]
    assert loaded.definitions["@cat/quotes@1.0.0"].fn.__module__ == "catproj_agents.quotes"


def test_one_source_given_in_every_form_exists_once(project: Path) -> None:
    forms = ["catproj_agents.quotes", "catproj_agents/quotes.py", "catproj_agents"]
    loaded = load_each(forms)
    assert (list(loaded.definitions), loaded.broken) == (["@cat/quotes@1.0.0"], [])


def test_files_of_a_folder_are_named_from_the_project(project: Path) -> None:
    loaded = load_each(["catproj_bots"])
    assert (list(loaded.definitions), loaded.broken) == (["@cat/returns@1.0.0"], [])
    assert loaded.definitions["@cat/returns@1.0.0"].fn.__module__ == "catproj_bots.returns"


def test_a_loose_file_finds_its_neighbours_and_hides_nothing_that_is_installed(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    _file(elsewhere, "cat_neighbour.py", "KIND = 1\n")
    _file(elsewhere, "loose.py", "from cat_neighbour import KIND\n" + GOOD.format(name="loose"))
    _file(elsewhere, "wave.py", GOOD.format(name="wave"))  # a module of the standard library
    _file(elsewhere, "not-a-name.py", GOOD.format(name="odd"))
    loaded = load_each([str(elsewhere)])
    assert (sorted(loaded.definitions), loaded.broken) == (
        ["@cat/loose@1.0.0", "@cat/odd@1.0.0", "@cat/wave@1.0.0"],
        [],
    )
    import wave

    assert not str(wave.__file__).startswith(str(elsewhere))


def test_a_folder_called_as_a_module_of_python_is_loaded_by_its_files(project: Path) -> None:
    (project / "queue").mkdir()
    _file(project, "queue/bot.py", GOOD.format(name="queued"))
    for source in ("queue", "./queue", "queue/bot.py"):
        loaded = load_each([source])
        assert (list(loaded.definitions), loaded.broken) == (["@cat/queued@1.0.0"], [])
    import queue

    assert not str(queue.__file__).startswith(str(project))
