"""The built wheel: what is in it, and that its command works outside a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    unwanted = shutil.ignore_patterns(
        ".*", "build", "dist", "tests", "*.egg-info", "__pycache__", "node_modules"
    )
    shutil.copytree(ROOT, source, ignore=unwanted)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, source], check=True, timeout=150)
    (made,) = folder.glob("runyard-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel's files before everything else, and no checkout; its Python."""
    folder = tmp_path_factory.mktemp("installed")
    target = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run(target, check=True, timeout=150)
    return folder


def test_it_has_its_licence_its_examples_and_what_the_console_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = packed.read(metadata).decode()
        (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
        assert packed.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: Apache-2.0" in text
    assert "License-File: LICENSE" in text
    for wanted in (
        "examples/support_triage.yaml",
        "examples/echo.py",
        "console/console.js",
        "runyard/py.typed",
    ):
        assert [name for name in names if name.endswith(wanted)], wanted
    assert not [name for name in names if name.startswith(("tests/", "build/"))]


def test_the_examples_of_an_installation_are_found(installed: Path) -> None:
    code = "from runyard_launch.supervisor import parts; print(parts.examples_folder())"
    shown = _python(installed, "-c", code)
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.strip()).is_relative_to(installed)
    assert (Path(shown.stdout.strip()) / "echo.py").is_file()


def test_without_examples_a_demo_is_refused_in_a_sentence(installed: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(installed, bare)
    shutil.rmtree(bare / "share")
    refused = _python(bare, "-m", "runyard_launch.cli", "up", "--demo", cwd=tmp_path)
    assert (refused.returncode, "RUNYARD_AGENTS" in refused.stderr) == (2, True)
    assert "Traceback" not in refused.stderr


def test_a_document_that_is_not_there_is_not_called_out_of_step(installed: Path) -> None:
    checked = _python(installed, "-m", "runyard_api.documents.openapi", "--check")
    assert checked.returncode == 2
    assert "out of step" not in checked.stderr
    assert "checkout" in checked.stderr


def _python(installed: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    environ |= {"PYTHONPATH": str(installed), "RUNYARD_PORT": "0", "RUNYARD_HOME": str(installed / "home")}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        cwd=cwd or installed,
        capture_output=True,
        text=True,
        timeout=100,
    )
