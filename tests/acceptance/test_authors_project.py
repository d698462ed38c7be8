"""An author's project whose packages are called as Runyard's folders are, beside Runyard from its wheels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launching import UP_LINE, Launched
from tests.ports import free_port
from tests.stack import FOLDERS
from tests.wheels import Wheels, install, site_packages, virtualenv

#: Packages of the project, each with a `part.py` that its agents import.
NAMES = ("common", "api", "workers", "scheduler", "launch", "tests")
AGENT = """from runyard import agent
import api.part, common.part, launch.part, scheduler.part, tests.part, workers.part
from {neighbour} import WORD

@agent("@shop/{name}")
async def {name}(ctx, args):
    parts = (api.part, common.part, launch.part, scheduler.part, tests.part, workers.part)
    return {{"owners": [part.OWNER for part in parts], "word": WORD, "module": __name__}}
"""
#: How each agent is given in RUNYARD_AGENTS.
SOURCES = {"quotes": "shop_agents.quotes", "orders": "shop_agents/orders.py", "returns": "bots"}
MODULES = {"quotes": "shop_agents.quotes", "orders": "shop_agents.orders", "returns": "bots.returns"}


#: The first test builds and installs the wheels, and each starts half a dozen processes.
pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def python(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtualenv with Runyard's wheels and what they need; its Python."""
    installed = virtualenv(tmp_path_factory.mktemp("installed") / "venv")
    install(installed, *wheels)
    # The dependencies are those of this environment: a .pth file is not followed further, to the checkout.
    (site_packages(installed) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return installed


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The author's project."""
    project = tmp_path / "shop"
    for name in NAMES:
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("")
        (project / name / "part.py").write_text(f"OWNER = 'the shop'\nNAME = {name!r}\n")
        (project / name / "settings.py").write_text("raise RuntimeError('not to be imported')\n")
        (project / name / "__main__.py").write_text("raise SystemExit('the shop is not to be started')\n")
    for name, neighbour in (("quotes", ".words"), ("orders", ".words")):
        package = project / "shop_agents"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "words.py").write_text("WORD = 'a neighbour'\n")
        (package / f"{name}.py").write_text(AGENT.format(name=name, neighbour=neighbour))
    (project / "bots").mkdir()
    (project / "bots" / "bot_words.py").write_text("WORD = 'a neighbour'\n")
    (project / "bots" / "returns.py").write_text(AGENT.format(name="returns", neighbour="bots.bot_words"))
    return project


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    """The environment of a shell in which Runyard is installed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNYARD_", "PYTHON"))}
    return kept | {
        "RUNYARD_HOME": str(home),
        "RUNYARD_PORT": str(free_port()),
        "RUNYARD_AGENTS": ",".join(SOURCES.values()),
        "RUNYARD_MODEL": "none",  # nothing here asks a model
        "RUNYARD_MODEL_BASE_URL": "http://127.0.0.1:9/v1",
    }


@pytest.fixture
def running(python: Path, project: Path, env: dict[str, str], tmp_path: Path) -> Iterator[Launched]:
    """`runyard up` in the project's folder."""
    launched = Launched([str(python.with_name("runyard")), "up"], tmp_path / "up.log", env, cwd=project)
    try:
        launched.until(UP_LINE, 120)
        yield launched
    finally:
        launched.stop()


def test_its_agents_run_from_module_file_and_folder_with_its_own_imports(
    running: Launched, python: Path, project: Path, env: dict[str, str]
) -> None:
    for name in SOURCES:
        command = [str(python.with_name("runyard")), "run", f"@shop/{name}", "--follow", "--json"]
        done = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr + running.output
        output = json.loads(done.stdout.splitlines()[-1])["output"]
        assert output == {"owners": ["the shop"] * 6, "word": "a neighbour", "module": MODULES[name]}
    publish = [str(python.with_name("runyard")), "agents", "publish", "bots"]
    done = subprocess.run(publish, env=env, cwd=project, capture_output=True, text=True, timeout=120)
    assert "1 published: @shop/returns." in done.stdout, done.stderr
    elsewhere = env | {
        "PYTHONPATH": str(project)
    }  # the project ahead of everything, seen from another folder
    done = subprocess.run([*publish[:2], "list"], env=elsewhere, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "@shop/quotes" in done.stdout


def test_the_wheels_have_no_other_names_than_runyards(python: Path) -> None:
    records = site_packages(python).glob("runyard*.dist-info/RECORD")
    lines = [line for record in records for line in record.read_text().splitlines()]
    tops = {line.split("/")[0].split(",")[0] for line in lines}
    packages = {top for top in tops if not top.endswith(".dist-info") and top != ".."}
    assert packages == {"runyard", "runyard_pytest", *(f"runyard_{name}" for name in filter(None, FOLDERS))}


def test_from_an_editable_install_it_is_the_same(project: Path, env: dict[str, str]) -> None:
    code = (
        "from runyard_workers.agent_code.catalogue import load_each; import os; "
        "found = load_each(os.environ['RUNYARD_AGENTS'].split(',')); "
        "print(sorted(d.fn.__module__ for d in found.definitions.values()), found.broken)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=env, cwd=project, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == f"{sorted(MODULES.values())} []", done.stderr
