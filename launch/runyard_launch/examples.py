"""The example agents: those of the checkout, or those that came with the installed package."""

from __future__ import annotations

from pathlib import Path

from runyard_launch.problems import StartProblem

_CHECKOUT = Path(__file__).parents[2] / "examples"
#: Where a wheel puts them: below the environment, the user's base or the target that it was installed into.
_INSTALLED = Path("share/runyard/examples")
_ONE = "support_triage.yaml"


def folder() -> Path:
    """Where they are. Raises `StartProblem` for an installation without them."""
    for place in (_CHECKOUT, *(parent / _INSTALLED for parent in Path(__file__).parents)):
        if (place / _ONE).is_file():
            return place
    raise StartProblem(
        "--demo needs the example agents, which this installation has not: start without it, and name agents of your "
        "own in RUNYARD_AGENTS."
    )
