"""The built wheel: what is in it, and that its command works outside a checkout."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.partly_installed import distributions, python

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(420)


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
    subprocess.run([*build, "--wheel-dir", folder, source], check=True, timeout=300)
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
    subprocess.run(target, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel has of itself."""
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(packed.read(name))


def test_it_has_its_licence_its_examples_and_what_the_console_and_new_projects_need(wheel: Path) -> None:
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
        "console/assets/console.js",
        "console/assets/pages/overview.js",
        "console/assets/vendor/uPlot.LICENSE.txt",
        "development/template/Dockerfile.tmpl",
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


def test_its_metadata_has_the_extras_and_asks_for_little_without_one(metadata: Message) -> None:
    needs = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    base = {str(canonicalize_name(need.name)) for need in needs if need.marker is None}
    assert base == {"httpx2", "orjson", "typing-extensions"}
    assert {
        "client", "cli", "typed", "server", "local", "postgres", "mysql", "s3", "openai", "anthropic", "google", "mcp",
        "files", "celery", "langgraph", "openai-agents", "pydantic-ai", "all",
    } <= set(metadata.get_all("Provides-Extra", []))  # fmt: skip
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata["Keywords"]


def test_with_all_that_the_base_needs_it_has_less_than_ten_megabytes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        own = sum(entry.file_size for entry in packed.infolist())
    files = [file for name in distributions("client") for file in importlib.metadata.files(name) or []]
    others = sum(Path(file.locate()).stat().st_size for file in files if file.suffix != ".pyc")
    assert own > 2_000_000, "the server's source is in it"
    assert others > 500_000
    assert own + others < 10_000_000


def test_where_only_the_base_is_installed_the_client_is_imported_from_it(installed: Path) -> None:
    heavy = ("sqlalchemy", "celery", "starlette", "pydantic")
    code = f"import runyard, sys; runyard.Client; print(runyard.__file__, [m for m in {heavy} if m in sys.modules])"
    done = python(code, PYTHONPATH=str(installed))
    assert done.stdout.strip() == f"{installed / 'runyard' / '__init__.py'} []", done.stderr


def test_it_is_run_as_a_module_and_by_its_command(installed: Path, wheel: Path) -> None:
    assert _python(installed, "-m", "runyard", "--version").stdout == "runyard 0.1.0\n"
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "runyard = runyard.__main__:main" in packed.read(name).decode()


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
