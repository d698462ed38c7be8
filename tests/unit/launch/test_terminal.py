"""Texts that are not the program's own come out as they are, brackets and colons included."""

from __future__ import annotations

import io

import pytest

from runyard_launch.cli import doctor, terminal
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


@pytest.mark.parametrize(
    ("piped", "first", "whole"),
    [
        ("one\n", "one", "one"),
        ("-----BEGIN\nbody\n-----END\n", "-----BEGIN", "-----BEGIN\nbody\n-----END"),
        ("a\r\n", "a", "a"),
    ],
)
def test_a_secret_of_several_lines_is_read_whole(
    monkeypatch: pytest.MonkeyPatch, piped: str, first: str, whole: str
) -> None:
    for lines, expected in ((False, first), (True, whole)):
        monkeypatch.setattr("sys.stdin", io.StringIO(piped))
        assert terminal.read_secret("Value", "value", "…", lines=lines) == expected
