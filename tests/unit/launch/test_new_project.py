"""`runyard init`: what a project is called, and the command that it names next."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runyard_launch.cli.main import app
from runyard_launch.development.new_project import NewProject
from runyard_launch.problems import CommandFailed


@pytest.mark.parametrize(
    ("folder", "name", "module"),
    [
        ("shop", "shop", "shop_agents"),
        ("läden-☃", "laden", "laden_agents"),
        ("Straße Łódź", "strasse-lodz", "strasse_lodz_agents"),
        ("☃", "my-agents", "my_agents"),
        ("3d", "3d", "project_3d_agents"),
    ],
)
def test_a_project_is_called_as_its_folder_in_plain_letters(folder: str, name: str, module: str) -> None:
    project = NewProject.of(Path(folder))
    assert (project.name, project.module) == (name, module)


def test_a_name_of_blanks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as refused:
        NewProject.of(tmp_path / "  ")
    assert refused.value.code == "folder_unnamed"


def test_the_next_command_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    done = CliRunner().invoke(app, ["init", str(folder)])
    assert done.exit_code == 0
    command = done.output.rstrip().partition("Next: ")[2]
    assert shlex.split(command) == ["cd", str(folder), "&&", "runyard", "dev"]
