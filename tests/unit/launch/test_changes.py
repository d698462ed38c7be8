"""Which saves in a project are changes of its agents, and that several at once are one."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from runyard_launch.development.changes import Files, Project, Watcher, changed, look
from tests.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with an agent, a neighbour, a package and a folder of manifests."""
    for name in ("agents.py", "words.py", "shop/__init__.py", "shop/prices.py", "declared/greeter.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    return tmp_path


def project(folder: Path, *sources: str) -> Project:
    return Project(folder, tuple(str(folder / source) for source in sources or ("agents.py", "declared")))


def files(of: Project, before: Files | None = None) -> Files:
    return look(of, of.folders(), before or {})


@pytest.mark.parametrize(
    "name",
    ["agents.py", "words.py", "shop/prices.py", "declared/greeter.yaml", "declared/new.json", "new/a.py"],
)
def test_code_of_the_project_and_manifests_of_a_source_are_changes(folder: Path, name: str) -> None:
    before = files(project(folder))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("other content\n")
    assert changed(before, files(project(folder), before)) == [folder / name]


@pytest.mark.parametrize(
    "name",
    [
        ".agents.py.swp", "agents.py~", ".#agents.py", "#agents.py#", "4913", "agents.pyc", "__pycache__/agents.py",
        ".venv/lib/a.py", "node_modules/a.py", ".git/hooks/a.py", ".runyard/a.py", "test_agents.py", "conftest.py",
        "output.json", "shop/notes.yaml", "agents.txt", "declared/.greeter.yaml.tmp",
    ],
)  # fmt: skip
def test_what_editors_python_and_tests_write_is_none(folder: Path, name: str) -> None:
    before = files(project(folder))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x\n")
    assert changed(before, files(project(folder), before)) == []


def test_a_virtualenv_is_left_out_under_any_name(folder: Path) -> None:
    (folder / "mine/lib").mkdir(parents=True)
    (folder / "mine/pyvenv.cfg").write_text("")
    (folder / "mine/lib/a.py").write_text("")
    assert folder / "mine/lib/a.py" not in files(project(folder))


def test_a_save_without_a_change_is_none_and_a_removed_file_is_one(folder: Path) -> None:
    before = files(project(folder))
    (folder / "agents.py").write_text("1\n")
    os.utime(folder / "agents.py", (1, 1))
    again = files(project(folder), before)
    assert changed(before, again) == []
    (folder / "words.py").unlink()
    assert changed(again, files(project(folder), again)) == [folder / "words.py"]


def test_a_source_elsewhere_counts_with_its_neighbours(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "bots.py").write_text("")
    (other / "beside.py").write_text("")
    found = files(Project(folder, (str(other / "bots.py"),)))
    assert {other / "bots.py", other / "beside.py"} < found.keys()


def test_saves_are_reported_together_also_in_a_folder_that_is_new(folder: Path) -> None:
    reported: list[list[Path]] = []
    came = threading.Event()

    def report(paths: list[Path]) -> None:
        reported.append(paths)
        came.set()

    watcher = Watcher(project(folder), report)
    (folder / "agents.py").write_text("2\n")  # before it begins: it counts
    (folder / "words.py").write_text("2\n")
    watcher.start()
    try:
        assert came.wait(30)
        assert reported == [[folder / "agents.py", folder / "words.py"]]
        (folder / "later").mkdir()
        (folder / "later/bot.py").write_text("1\n")
        wait_until(
            lambda: folder / "later/bot.py" in {path for paths in reported for path in paths}, seconds=30
        )
        (folder / "later/bot.py").write_text("2\n")
        wait_until(lambda: sum(folder / "later/bot.py" in paths for paths in reported) == 2, seconds=30)
    finally:
        watcher.end()
