"""Clock steps: libfaketime (Debian's package `libfaketime`) gives each process a wall clock that can be moved.

The monotonic clock is left alone, as a step of a host's clock leaves it alone.
"""

from __future__ import annotations

from pathlib import Path

_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")


class Clocks:
    """A file for each process with the seconds its clock is off."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    @staticmethod
    def library() -> Path | None:
        """The preloaded library, or None where it is not installed."""
        found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])]
        return found[0] if found else None

    def environment(self, name: str) -> dict[str, str]:
        """What a process needs to have such a clock."""
        if not self._file(name).exists():
            self.set(name, 0)
        return {
            "LD_PRELOAD": str(self.library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",  # a killed process would leave its shared memory behind
        }

    def set(self, name: str, seconds: float) -> None:
        """Move one process's clock so far from the host's."""
        new = self._file(name).with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self._file(name))  # it is read at every look at the clock: never half

    def _file(self, name: str) -> Path:
        return self._folder / name
