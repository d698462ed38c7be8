"""Mutants: the tree with one protection taken out, each under a storm that must report what is missing.

python -m tests.chaos.mutants [NAME …]

A guard that cannot fail guards nothing. Each plan first has to be clean on the tree as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.stack import FOLDERS

ROOT: Final = Path(__file__).parents[2]
_FOLDERS: Final = ("api", "common", "examples", "launch", "runyard", "scheduler", "tests", "tools", "workers")
#: Seeds tried, as a storm is chance; one that reports is enough.
SEEDS: Final = (1, 2, 3)
#: How long one storm may take, in seconds.
_LONGEST: Final = 900


@dataclass(frozen=True)
class Edit:
    """A text that is exactly once in a file, and what takes its place."""

    file: str
    text: str
    instead: str

    def apply(self, tree: Path) -> None:
        """Change the file below `tree`; ValueError when the text does not stand there exactly once."""
        path = tree / self.file
        content = path.read_text()
        if (times := content.count(self.text)) != 1:
            raise ValueError(f"{self.file} has the text of a mutation {times} times, not once:\n{self.text}")
        path.write_text(content.replace(self.text, self.instead))


@dataclass(frozen=True)
class Mutant:
    """A protection: how it is taken out, the plan that misses it, and the findings one of which must come."""

    protects: str
    edits: tuple[Edit, ...]
    plan: str
    reported: frozenset[str]


def _kinds(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


MUTANTS: Final[dict[str, Mutant]] = {
    "fence": Mutant(
        "a worker that owns a run no more can write nothing",
        (
            Edit(
                "common/runyard_common/runs/queries/transitions.py",
                "        and (head.attempt, head.claim_token) == tuple(fence)\n",
                "        and fence is not None\n",
            ),
        ),
        "suspended",
        _kinds("stale write", "two ends", "innocent failed", "innocent charged"),
    ),
    "claim-token": Mutant(
        "a claim that the database forgot is another claim than the next of that number",
        (
            Edit(
                "common/runyard_common/runs/queries/transitions.py",
                "        and (head.attempt, head.claim_token) == tuple(fence)\n",
                "        and head.attempt == fence.attempt\n",
            ),
        ),
        "failed-over",
        _kinds("irreversible twice", "step repeated", "two lives", "stale write"),
    ),
    "journal": Mutant(
        "a finished step is not executed again",
        (
            Edit(
                "workers/runyard_workers/attempts/replay.py",
                "        self._skip_inside(key)\n        return entry\n",
                "        return None\n",
            ),
        ),
        "resumed",
        _kinds("step repeated"),
    ),
    "limits": Mutant(
        "no more runs hold a slot than their limit allows",
        (
            Edit(
                "common/runyard_common/runs/service/admissions.py",
                "        full = full_limit(its, usages, queue_jump=True)\n",
                "        full = None\n",
            ),
        ),
        "limited",
        _kinds("over a limit"),
    ),
    "drain": Mutant(
        "a drain waits for the claim under way and hands back what it brings",
        (
            Edit(
                "workers/runyard_workers/engine.py",
                "        await self._claimer.wait(max(0.0, seconds - LAST_SECONDS))\n",
                "        self._claimer.cancel()\n",
            ),
        ),
        "deployed",
        _kinds("left behind by an orderly stop", "without owner"),
    ),
    "ownerless": Mutant(
        "a run whose worker has no row is found and handed on",
        (
            Edit(
                "scheduler/runyard_scheduler/duties/rescue.py",
                " + self._ownerless(now)\n",
                "\n",
            ),
        ),
        "row-lost",
        _kinds("without owner"),
    ),
}


def mutated(mutant: Mutant, folder: Path) -> Path:
    """A copy of the tree in `folder` without the mutant's protection."""
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for part in _FOLDERS:
        shutil.copytree(ROOT / part, tree / part, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)
    for edit in mutant.edits:
        edit.apply(tree)
    return tree


def findings(tree: Path, plan: str, seed: int, report: Path) -> tuple[dict[str, int], str]:
    """Carry out a plan on a tree, in processes that import nothing else: findings of each kind, and the summary."""
    command = [sys.executable, "-m", "tests.chaos.storm", "--plan", plan, "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--report", report],
        cwd=tree,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(str(tree / folder) for folder in FOLDERS),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        check=False,
    )
    if not report.exists():
        raise RuntimeError(f"The storm {plan} broke off:\n{(done.stdout + done.stderr)[-3000:]}")
    found: dict[str, int] = json.loads(report.read_text())
    report.unlink()
    return found, done.stdout


def reported(name: str) -> bool:
    """Whether the storm of a mutant reports it, and only it."""
    mutant = MUTANTS[name]
    with tempfile.TemporaryDirectory(prefix="runyard-mutant-") as folder:
        report = Path(folder) / "report"
        control, summary = findings(ROOT, mutant.plan, SEEDS[0], report)
        if control:
            print(f"{name}: {mutant.plan} is not clean on the tree as it is:\n{summary}", flush=True)
            return False
        tree = mutated(mutant, Path(folder))
        for seed in SEEDS:
            found, _ = findings(tree, mutant.plan, seed, report)
            if mutant.reported & found.keys():
                print(f"{name}: reported by {mutant.plan}, seed {seed}: {found}", flush=True)
                return True
            print(f"{name}: {mutant.plan}, seed {seed}, reports only {found or 'nothing'}", flush=True)
    print(f"{name}: NOT REPORTED. It protects this: {mutant.protects}.", flush=True)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants named, or all; 1 when one is not reported."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*MUTANTS, []], metavar="NAME", help=", ".join(MUTANTS))
    names = parser.parse_args(arguments).names or list(MUTANTS)
    missed = [name for name in names if not reported(name)]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
