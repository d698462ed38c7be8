"""Run TypeScript in Node.js; the compiler is installed on first use."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / ".test" / "typescript"
PACKAGE = "typescript@5"
#: Drops the types of the file it is given and runs what is left; what follows are the program's arguments.
_RUN = """
const [file, ...rest] = process.argv.slice(1);
const { outputText } = require("typescript").transpileModule(require("fs").readFileSync(file, "utf8"), {
  compilerOptions: { target: "ES2022", module: "CommonJS" },
});
process.argv = [process.argv[0], file, ...rest];
eval(outputText);
"""


def run(file: Path, *arguments: str, env: dict[str, str]) -> str:
    """What the program writes."""
    node = _node()
    done = subprocess.run(
        [node, "-e", _RUN, "--", str(file), *arguments],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"]} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _node() -> str:
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        pytest.fail("Node.js with npm is needed to run TypeScript: install nodejs and npm.", pytrace=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test processes install once
        if not (FOLDER / "node_modules" / "typescript" / "package.json").exists():
            _install()
    return program


def _install() -> None:
    options = ["--no-audit", "--no-fund", "--fetch-retries=1"]
    command = ["npm", "install", "--prefix", str(FOLDER), *options, PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        failure = done.stderr[-500:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = "no answer within 120 s"
    if failure:
        pytest.fail(
            f"npm could not install {PACKAGE}. Make npm's registry reachable, or run "
            f"`npm install --prefix .test/typescript {PACKAGE}` by hand. It failure: {failure}",
            pytrace=False,
        )
