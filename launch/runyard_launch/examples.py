"""The example agents: those of the checkout, or those that came with the installed package."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from runyard_launch.problems import StartProblem

_CHECKOUT = Path(__file__).parents[2] / "examples"
_ONE = "support_triage.yaml"


def folder() -> Path:
    """Where they are. Raises `StartProblem` for an installation without them."""
    if (_CHECKOUT / _ONE).is_file():
        return _CHECKOUT
    try:
        files = metadata.files("runyard") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _ONE and (path := Path(str(file.locate()))).is_file():
            return path.resolve().parent
    raise StartProblem(
        "--demo needs the example agents, which this installation has not: start without it, and name agents of your "
        "own in RUNYARD_AGENTS."
    )
