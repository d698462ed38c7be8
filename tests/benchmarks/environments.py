"""The virtualenvs of the subjects of `bench_peers`, with pinned packages."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.figures import Broken
from tests.stack import ROOT

VIRTUALENVS = ROOT / ".test" / "peers"
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements"


def python(environment: str) -> Path:
    """The interpreter of a virtualenv; makes it where it is missing or out of step."""
    if not environment:
        return Path(sys.executable)
    wanted, folder = REQUIREMENTS / f"{environment}.txt", VIRTUALENVS / environment
    made, stamp = folder / "bin" / "python", folder / ".requirements"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"• Installing {environment} into {folder.relative_to(ROOT)}", file=sys.stderr)
        if not (_made(_uv(folder, wanted)) or _made(_pip(folder, wanted))):
            raise Broken(f"{environment} could not be installed (see the lines above)")
        stamp.write_text(digest)
    return made


def _made(commands: list[list[str]]) -> bool:
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    env |= {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1"}
    try:
        return all(subprocess.run(command, env=env).returncode == 0 for command in commands)
    except FileNotFoundError:
        return False  # no uv for this machine


def _uv(folder: Path, wanted: Path) -> list[list[str]]:
    uv = str(Path(sys.executable).with_name("uv"))
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--compile-bytecode",
        "--python",
        str(folder / "bin" / "python"),
    ]
    return [
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [*install, "-r", str(wanted)],
    ]


def _pip(folder: Path, wanted: Path) -> list[list[str]]:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    return [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, "install", "--quiet", "-r", str(wanted)],
    ]
