"""Clock steps: a small preloaded library (`clock.c`) gives each process a wall clock that can be moved.

Debian's libfaketime cannot: under it `time.sleep` of Python fails, which waits for an absolute monotonic time.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class Clocks:
    """A file for each process with the seconds its clock is off."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True)

    @staticmethod
    def possible() -> bool:
        """Whether there is a compiler."""
        return shutil.which("cc") is not None

    def environment(self, name: str) -> dict[str, str]:
        """What a process needs to have such a clock."""
        if not self._file(name).exists():
            self.set(name, 0)
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file(name))}

    def set(self, name: str, seconds: float) -> None:
        """Move one process's clock so far from the host's."""
        new = self._file(name).with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self._file(name))  # it is read at every look at the clock: never half

    def _file(self, name: str) -> Path:
        return self._folder / name
