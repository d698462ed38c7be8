"""deploy/Dockerfile with a container engine: built, then started as deploy/kubernetes starts it.

``python tools/image_engine.py`` (`make image-check`). Where neither docker nor podman answers, or a folder is given,
`image_check.py` carries the steps out instead. Texts in the environment: IMAGE_ENGINE is another engine, or one with
options (`podman --runtime runc`); IMAGE_BASE the image that FROM names, where the registry's cannot be pulled;
IMAGE_BUILD_OPTIONS and IMAGE_RUN_OPTIONS more options of `build` and `run`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGE = "localhost/runyard-image-check"
NAME = "runyard-image-check"
UID = "10001"
WITHIN = 120.0  # seconds for the api to be ready
#: What deploy/kubernetes asks for: nothing but the volume and /tmp can be written, no capability, no way to more.
CONFINED = [
    *("--read-only", "--tmpfs", "/tmp"),  # noqa: S108
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("-v", f"{NAME}:/var/lib/runyard"),
]
HEALTH = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"


def found() -> list[str] | None:
    """The command of an engine that answers, or None."""
    for words in map(shlex.split, filter(None, (os.environ.get("IMAGE_ENGINE"), "docker", "podman"))):
        if shutil.which(words[0]) and _run([*words, "info"]).returncode == 0:
            return words
    return None


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _more(name: str) -> list[str]:
    return shlex.split(os.environ.get(name, ""))


def build(engine: list[str]) -> None:
    """The image, of the files that git knows and .dockerignore leaves."""
    base = ["--build-arg", f"PYTHON={os.environ['IMAGE_BASE']}"] if "IMAGE_BASE" in os.environ else []
    command = [
        *engine,
        "build",
        *base,
        *_more("IMAGE_BUILD_OPTIONS"),
        "-t",
        IMAGE,
        "-f",
        "deploy/Dockerfile",
        ".",
    ]
    subprocess.run(command, cwd=REPOSITORY, check=True)


def check(engine: list[str]) -> None:
    """Start the image's processes, and see them work and stop."""
    start = [*engine, "run", *_more("IMAGE_RUN_OPTIONS"), *CONFINED]
    _remove(engine)
    try:
        subprocess.run([*start, "--rm", IMAGE, "migrate"], check=True)
        subprocess.run([*start, "--detach", "--name", NAME, IMAGE, "api"], check=True)
        end = time.monotonic() + WITHIN
        while _inside(engine, "python", "-c", HEALTH).returncode:
            assert time.monotonic() < end, f"the api is not ready: {_run([*engine, 'logs', NAME])}"
            time.sleep(0.5)
        uid = _inside(engine, "id", "-u").stdout.strip()
        assert uid == UID, f"it runs as {uid}"
        written = _inside(engine, "touch", "/opt/written").stderr
        assert "Read-only file system" in written, f"the root can be written: {written}"
        status = _inside(engine, "grep", "CapEff", "/proc/1/status").stdout
        assert not int(status.split()[1], 16), f"it has a capability: {status}"
        subprocess.run([*engine, "stop", "-t", "60", NAME], check=True)
        ended = _run([*engine, "inspect", NAME, "--format", "{{.State.ExitCode}}"]).stdout.strip()
        assert ended == "0", f"SIGTERM: the api ended with {ended}"
    finally:
        _remove(engine)


def _inside(engine: list[str], *command: str) -> subprocess.CompletedProcess[str]:
    return _run([*engine, "exec", NAME, *command])


def _remove(engine: list[str]) -> None:
    _run([*engine, "rm", "--force", NAME])
    _run([*engine, "volume", "rm", NAME])


def main() -> None:
    """Build and check with the engine that answers."""
    engine = found()
    if engine is None or len(sys.argv) > 1:
        without = str(Path(__file__).with_name("image_check.py"))
        os.execv(sys.executable, [sys.executable, without, *sys.argv[1:]])  # noqa: S606
    build(engine)
    check(engine)
    print(f"The image was built and started by {shlex.join(engine)}.")


if __name__ == "__main__":
    main()
