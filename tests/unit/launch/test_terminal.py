"""Texts that are not the program's own come out as they are, brackets and colons included."""

from __future__ import annotations

import pytest

from runyard_launch.cli import doctor
from runyard_launch.cli.doctor import Finding, Verdict
from runyard_launch.cli.terminal import print_rows

TEXT = 'pip install "runyard[local]" :x: [red]'


def test_a_list_shows_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": TEXT}], {"name": "Name"}, as_json=False)
    assert TEXT in capsys.readouterr().out


def test_the_doctor_shows_brackets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "findings", lambda: [Finding("model", Verdict.BAD, TEXT)])
    assert doctor.doctor() == 1
    assert TEXT in capsys.readouterr().out
