"""The two built wheels: what is in them, that the client's works alone, and the command outside a checkout."""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from types import MappingProxyType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.api_server import Floor
from tests.installation import Installation
from tests.partly_installed import distributions
from tests.wheels import Wheels, install, pip, site_packages, virtualenv

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def installed(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheels' files before everything else, and no checkout; its Python."""
    folder = tmp_path_factory.mktemp("installed")
    install(Path(sys.executable), "--target", folder, *wheels)
    return folder


@pytest.fixture(scope="module")
def client(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtualenv as `pip install runyard` leaves it: our wheel, what it needs, and the bytecode."""
    python = virtualenv(tmp_path_factory.mktemp("client") / "venv")
    install(python, wheels.runyard)
    site = site_packages(python)
    for name in distributions():
        for file in importlib.metadata.files(name) or []:
            if file.suffix != ".pyc" and file.parts[0] != "..":
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), site / file)
    assert compileall.compile_dir(site, quiet=1)
    return python


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """A server with a worker, which has one agent."""
    with Floor(tmp_path_factory.mktemp("server") / "home", publish) as floor:
        yield floor


def publish(site: Installation) -> None:
    site.publish(double, "@test/double", org=site.org)


async def double(ctx: object, args: dict[str, int]) -> int:
    """Twice the number."""
    return 2 * args["number"]


def names_in(wheel: Path) -> set[str]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def metadata(wheel: Path, name: str = "METADATA") -> Message:
    """What a wheel has of itself."""
    with zipfile.ZipFile(wheel) as packed:
        (path,) = (path for path in packed.namelist() if path.endswith(f".dist-info/{name}"))
        return message_from_bytes(packed.read(path))


def test_each_has_its_licence(wheels: Wheels) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            (licence,) = (name for name in packed.namelist() if name.endswith("licenses/LICENSE"))
            assert packed.read(licence) == (ROOT / "LICENSE").read_bytes()
        assert metadata(wheel)["License-Expression"] == "Apache-2.0"
        assert metadata(wheel)["License-File"] == "LICENSE"


def test_the_server_has_the_examples_and_what_the_console_and_new_projects_need(wheels: Wheels) -> None:
    names = names_in(wheels.server)
    for wanted in (
        "examples/support_triage.yaml",
        "examples/echo.py",
        "console/assets/console.js",
        "console/assets/pages/overview.js",
        "console/assets/vendor/uPlot.LICENSE.txt",
        "development/template/Dockerfile.tmpl",
    ):
        assert [name for name in names if name.endswith(wanted)], wanted


def test_no_file_of_a_package_is_in_both_or_in_neither(wheels: Wheels) -> None:
    small, large = names_in(wheels.runyard), names_in(wheels.server)
    assert not small & large
    folders = ("runyard", "runyard_pytest", "api", "common", "workers", "scheduler", "launch")
    files = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.*")}
    sources = {name for name in files if name.endswith((".py", "py.typed"))}
    packed = {name for name in small | large if name.endswith((".py", "py.typed"))}
    examples = {name for name in packed if "/share/runyard/examples/" in name}
    own = {name for name in sources if name.startswith(("runyard/", "runyard_pytest/"))}
    assert {name for name in small if ".dist-info/" not in name} == own
    assert packed - own - examples == {name.partition("/")[2] for name in sources - own}


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


def test_the_metadata_has_the_extras_and_asks_for_little_without_one(wheels: Wheels) -> None:
    small = metadata(wheels.runyard)
    needs = [Requirement(text) for text in small.get_all("Requires-Dist", [])]
    base = {str(canonicalize_name(need.name)) for need in needs if need.marker is None}
    assert base == {"httpx2", "orjson", "typing-extensions"}
    assert {
        "client", "cli", "typed", "server", "local", "postgres", "mysql", "s3", "openai", "anthropic", "google", "mcp",
        "files", "celery", "langgraph", "openai-agents", "pydantic-ai", "all",
    } <= set(small.get_all("Provides-Extra", []))  # fmt: skip
    assert "Typing :: Typed" in small.get_all("Classifier", [])
    assert small["Keywords"]


def test_each_asks_for_the_other_in_its_own_version(wheels: Wheels) -> None:
    small, large = metadata(wheels.runyard), metadata(wheels.server)
    assert small["Version"] == large["Version"]
    assert large.get_all("Requires-Dist") == [f"runyard=={small['Version']}"]
    needs = [text for text in small.get_all("Requires-Dist", []) if text.startswith("runyard-server")]
    assert needs == [f'runyard-server=={small["Version"]}; extra == "cli"']
    assert {"server", "all"} <= {
        extra for extra in ("server", "all") if "runyard-server" in distributions(extra)
    }


def test_a_client_takes_less_than_ten_megabytes_with_its_bytecode(client: Path) -> None:
    files = [path for path in site_packages(client).rglob("*") if path.is_file()]
    compiled = [path for path in files if path.suffix == ".pyc"]
    assert len(compiled) > 150, "what pip compiles"
    assert 3_000_000 < sum(path.stat().st_size for path in files) < 10_000_000


def test_a_client_runs_an_agent_of_a_server(client: Path, floor: Floor) -> None:
    heavy = (
        "pydantic",
        "sqlalchemy",
        "celery",
        "starlette",
        "runyard_common",
        "runyard_api",
        "runyard_workers",
    )
    code = (
        "import sys\nfrom runyard import AsyncClient, Client, Context, agent\n"
        f"with Client({floor.api.url!r}, {floor.api.key!r}) as client:\n"
        "    print(client.run('@test/double', {'number': 21}).result())\n"
        f"print(Client.__module__, [name for name in {heavy} if name in sys.modules])"
    )
    done = _run(client, "-c", code)
    assert done.stdout.splitlines() == ["42", "runyard.client []"], done.stderr


def test_a_client_names_what_the_command_and_the_fixtures_of_tests_need(client: Path, tmp_path: Path) -> None:
    refused = _run(client.with_name("runyard"), "up")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert 'pip install "runyard[cli]"' in refused.stderr
    (tmp_path / "test_it.py").write_text("def test_it(runyard_run): runyard_run('echo')\n")
    # pytest is this environment's, whose .pth files are not followed: no package of the checkout is found.
    quick = [
        "-q",
        "-p",
        "runyard",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    others = {"PYTHONPATH": sysconfig.get_path("purelib"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = _run(client, "-m", "pytest", *quick, more=others)
    assert 'pip install "runyard[server]"' in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 1


def test_each_is_uninstalled_without_the_others_files(wheels: Wheels, tmp_path: Path) -> None:
    python = virtualenv(tmp_path / "venv")
    site = site_packages(python)
    install(python, "--no-compile", *wheels)
    small = {file for file in _files(site) if file.startswith(("runyard/", "runyard_pytest/", "runyard-"))}
    pip(python, "uninstall", "--yes", "runyard-server")
    assert _files(site) == small
    assert "runyard/client.py" in small
    pip(python, "uninstall", "--yes", "runyard")
    assert _files(site) == set()


def test_it_is_run_as_a_module_and_by_its_command(installed: Path, wheels: Wheels) -> None:
    version = metadata(wheels.runyard)["Version"]
    assert _python(installed, "-m", "runyard", "--version").stdout == f"runyard {version}\n"
    with zipfile.ZipFile(wheels.runyard) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "runyard = runyard.__main__:main" in packed.read(name).decode()


def _files(site: Path) -> set[str]:
    return {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}


def _python(installed: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    own = {"PYTHONPATH": str(installed), "RUNYARD_PORT": "0", "RUNYARD_HOME": str(installed / "home")}
    return _run(Path(sys.executable), *arguments, cwd=cwd or installed, more=own)


def _run(
    program: Path, *arguments: str, cwd: Path | None = None, more: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("RUNYARD_", "PYTEST_"))
    }
    return subprocess.run(
        [program, *arguments],
        env={**environ, **more},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
    )
