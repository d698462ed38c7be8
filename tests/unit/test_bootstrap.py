"""Setting up a checkout: one at a time in a folder."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.stack import ROOT
from tests.waiting import wait_until


def test_a_second_setup_in_a_folder_waits_for_the_first_and_prints_why(tmp_path: Path) -> None:
    script = tmp_path / "tools" / "bootstrap.sh"
    script.parent.mkdir()
    shutil.copy(ROOT / "tools" / "bootstrap.sh", script)
    with (tmp_path / ".venv.lock").open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)  # as the first does while it is at work
        errors = tmp_path / "errors"
        with errors.open("w") as file:
            second = subprocess.Popen(
                [script, "run"], stderr=file, env={"PATH": "/usr/bin:/bin", "PYTHON": "none"}
            )
        wait_until(lambda: "waiting for it" in errors.read_text())
        assert second.poll() is None
        assert not (tmp_path / ".venv").exists()
    second.wait(50)  # it went on; what comes of it here, without the files of a checkout, is another matter
    assert "Making the virtualenv" in errors.read_text()
