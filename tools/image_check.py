"""deploy/Dockerfile without a container engine: its steps as commands in clean roots of Debian, then its processes.

``python tools/image_check.py [FOLDER]`` (`make image-check` where no engine answers; as root, some minutes). A FROM is
a root that debootstrap makes, with Debian's Python in place of the image's. What the steps leave is started as a
container would be: as the image's account, by its ENTRYPOINT, on a root that is mounted read-only, with /tmp and the
volume alone to write to. The index of packages is that of this machine's pip.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
UID = "10001"
WITHIN = 120.0  # seconds for a process to be ready
#: Instructions that change nothing here.
IGNORED = ("ARG", "EXPOSE", "VOLUME")
#: What pip finds the index by, beside the variables that begin with PIP_.
PIP = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf")


class Stage:
    """A FROM with its steps: a root, and what ENV, WORKDIR and USER have set by now."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.user = root, "/", "root"
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.entrypoint: list[str] = []

    def apply(self, word: str, rest: str) -> None:
        """An instruction that concerns this stage alone."""
        if word == "WORKDIR":
            self.folder = rest
            (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            for name, _, value in (pair.partition("=") for pair in shlex.split(rest)):
                self.environment[name] = value.replace("$PATH", self.environment["PATH"])
        elif word == "RUN":
            self.run(rest)
        elif word == "USER":
            self.user = rest
        elif word == "ENTRYPOINT":
            self.entrypoint = json.loads(rest)
        elif word not in IGNORED:
            sys.exit(f"This check does not know the instruction {word}.")

    def run(self, script: str) -> None:
        """A step, as root or as the account that USER named."""
        chroot = [
            "chroot",
            self.root,
            "env",
            "-i",
            *self._variables(),
            "sh",
            "-euc",
            f"cd {self.folder}; {script}",
        ]
        done = subprocess.run(chroot, check=False)
        if done.returncode:
            sys.exit(f"The step failed: RUN {script}")

    def copy(self, sources: list[str], target: str, base: Path) -> None:
        """COPY of files and folders, from the checkout or from another stage."""
        to = self.root / (Path(self.folder) / target).as_posix().lstrip("/")
        for source in sources:
            found = base / source.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, to)

    def _variables(self) -> list[str]:
        pip = {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
        return [f"{name}={text}" for name, text in (pip | self.environment).items()]


def steps(text: str) -> list[tuple[str, str]]:
    """The file's instructions, in one line each."""
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()
    ]


def build(folder: Path) -> Stage:
    """Carry the file out; its last stage."""
    base = folder / "debian"
    if not (base / "usr/bin/python").exists():
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", base], check=True
        )
    stages: dict[str, Stage] = {}
    stage = Stage(base)
    for word, rest in steps((REPOSITORY / "deploy" / "Dockerfile").read_text()):
        print(f"• {word} {rest}", flush=True)
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "image"
            stage = stages[name] = Stage(_root(base, folder / name))
        elif word == "COPY":
            *sources, target = [part for part in rest.split() if not part.startswith("--from=")]
            other = re.match(r"--from=(\w+) ", rest)
            stage.copy(sources, target, stages[other[1]].root if other else context(folder))
        else:
            stage.apply(word, rest)
    return stage


def _root(base: Path, root: Path) -> Path:
    """A copy of the base, whose pip finds the index of this machine."""
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", base, root], check=True)
    for file in filter(Path.exists, map(Path, PIP)):
        target = root / file.relative_to("/")
        shutil.copytree(file, target) if file.is_dir() else shutil.copy(file, target)
    return root


def context(folder: Path) -> Path:
    """What COPY sees: the files of the repository, of which .dockerignore leaves some out."""
    found = folder / "context"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in listed.decode().strip("\0").split("\0"):
        if not name.startswith(("docs/", "tests/")):
            (found / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, found / name)
    return found


def start(stage: Stage, *command: str, **settings: str) -> subprocess.Popen[bytes]:
    """The image's process in a mount namespace of its own, where its root is read-only."""
    root = str(stage.root)
    mounts = f"mount --bind {root} {root}; mount --bind {root}/var/lib/runyard {root}/var/lib/runyard; "
    mounts += f"mount -t tmpfs tmpfs {root}/tmp; mount -t proc proc {root}/proc; "  # noqa: S108
    mounts += f"mount -o remount,bind,ro {root}; cd {root}"
    variables = [f"{name}={text}" for name, text in (stage.environment | settings).items()]
    inside = [
        "chroot", root, "setpriv", f"--reuid={stage.user}", f"--regid={stage.user}", "--clear-groups", "--no-new-privs",
        "--bounding-set=-all", "env", "-i", *variables, "sh", "-c", f'cd {stage.folder}; exec "$@"', "sh",
        *stage.entrypoint, *command,
    ]  # fmt: skip
    return subprocess.Popen(["unshare", "--mount", "sh", "-euc", f'{mounts}; exec "$@"', "sh", *inside])


def ready(stage: Stage) -> bool:
    """The worker's and the scheduler's probe is a file; here the api is asked, from inside."""
    ask = "import urllib.request as r; r.urlopen('http://127.0.0.1:18000/healthz', timeout=5)"
    asked = ["chroot", str(stage.root), "/opt/runyard/bin/python", "-c", ask]
    return subprocess.run(asked, check=False, stderr=subprocess.DEVNULL).returncode == 0


def check(stage: Stage) -> None:
    """Start the image's processes, and see them work and stop."""
    migrated = start(stage, "migrate").wait(WITHIN)
    assert migrated == 0, f"runyard migrate ended with {migrated}"
    api = start(stage, "api", RUNYARD_PORT="18000")
    try:
        end = time.monotonic() + WITHIN
        while not ready(stage):
            assert api.poll() is None, f"the api ended with {api.returncode}"
            assert time.monotonic() < end, "the api is not ready"
            time.sleep(0.5)
        status = Path(f"/proc/{api.pid}/status").read_text()
        uids = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
        assert uids is not None
        assert uids[1] == UID, f"it runs as {uids[1]}"
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), "it has a capability"
        written = subprocess.run(
            ["nsenter", f"--mount=/proc/{api.pid}/ns/mnt", "touch", f"{stage.root}/opt/written"], check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert "Read-only file system" in written.stderr, "the root can be written"
    finally:
        api.send_signal(signal.SIGTERM)
        ended = api.wait(60)
    assert ended == 0, f"SIGTERM: the api ended with {ended}"
    assert not (stage.root / "opt/written").exists()


def main() -> None:
    """Build and check in the folder that is named, or in one that is removed."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit("It needs root and Debian's debootstrap (apt-get install debootstrap).")
    if len(sys.argv) > 1:
        check(build(Path(sys.argv[1]).resolve()))
    else:
        with tempfile.TemporaryDirectory() as folder:
            check(build(Path(folder)))
    print("The image's steps and processes work in a clean root.")


if __name__ == "__main__":
    main()
