"""Migrations are one line: two that were written side by side must not both follow the same one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runyard_common.database import migrations

pytestmark = pytest.mark.documents


def test_each_migration_follows_the_one_before() -> None:
    files = sorted((Path(migrations.__file__).parent / "versions").glob("[0-9]*.py"))
    found = [
        dict(re.findall(r'^(revision|down_revision) = (?:"(\d+)"|None)', file.read_text(), re.MULTILINE))
        for file in files
    ]
    numbers = [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [file.name[:4] for file in files] == numbers
    assert [one["revision"] for one in found] == numbers
    assert [one["down_revision"] for one in found] == ["", *numbers[:-1]]
