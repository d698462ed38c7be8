"""Recorded conversations with models, for tests of agents. `runyard.testing` has what authors call."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recorded:
    """A conversation in a file. See `recorded`."""

    path: Path
    record: bool

    @property
    def again(self) -> str:
        """How to record it again."""
        return (
            f"To record it again, run the test with RUNYARD_RECORD=1, or remove {self.path}: the model is asked and"
            " paid."
        )


def recorded(path: str | Path, *, record: bool | None = None) -> Recorded:
    """The conversation with the models of a run, recorded in a JSON file: ``run(agent, model=recorded(path))``.

    Where there is no such file, the run asks the real models and writes it. Otherwise it answers from the file,
    without network, and `run` raises `AssertionError` where the conversation is another. record: True asks and
    writes in any case, False never; None leaves it to the file, and to RUNYARD_RECORD=1 in the environment. A
    relative path begins at the working directory.
    """
    file = Path(path)
    assert not file.is_dir(), f"{file} is a folder. Name a file for the recording."
    if record is None:
        record = os.environ.get("RUNYARD_RECORD", "").lower() in ("1", "true", "yes") or not file.exists()
    assert record or file.exists(), f"There is no recording {file}."
    return Recorded(file, record)
