"""The mutations of `make chaos-mutants` still apply to the code, and to the plans and findings that judge them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chaos.mutants import MUTANTS, ROOT, Edit
from tests.chaos.plans import PLANS
from tests.chaos.verdict import CHECKS


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutation_still_applies_to_the_code(name: str, tmp_path: Path) -> None:
    for edit in MUTANTS[name].edits:
        (tmp_path / edit.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / edit.file, tmp_path / edit.file)
    for edit in MUTANTS[name].edits:
        edit.apply(tmp_path)
        mutated = (tmp_path / edit.file).read_text()
        assert mutated != (ROOT / edit.file).read_text()
        compile(mutated, edit.file, "exec")


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_has_a_plan_and_findings_that_exist(name: str) -> None:
    mutant = MUTANTS[name]
    assert mutant.plan in PLANS
    assert mutant.reported <= CHECKS.keys()


@pytest.mark.parametrize("content", ["nothing of it", "x = 1\nx = 1\n"])
def test_a_mutation_whose_text_is_gone_or_repeated_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(content)
    with pytest.raises(ValueError, match=r"code\.py has the text of a mutation [02] times"):
        Edit("code.py", "x = 1\n", "x = 2\n").apply(tmp_path)
