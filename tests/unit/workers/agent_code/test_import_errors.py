"""What an author is shown of code that cannot be imported: the error first, then its own files, lines and text."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard.authoring import registered, restore
from runyard_workers.agent_code.catalogue import load_each
from runyard_workers.agent_code.tracebacks import of_import


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The project is the folder of the test."""
    before = registered()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    restore(before)


def shown(file: str) -> list[str]:
    (error,) = load_each([file]).errors
    return of_import(error).splitlines()


def test_an_error_at_import_has_the_authors_frames_without_those_of_the_import(tmp_path: Path) -> None:
    (tmp_path / "needs_words.py").write_text("import words_that_fail\n")
    (tmp_path / "words_that_fail.py").write_text("def word():\n    return {}['pear']\n\n\nword()\n")
    assert shown("needs_words.py") == [
        "KeyError: 'pear'",
        f'  File "{tmp_path}/needs_words.py", line 1, in <module>',
        "    import words_that_fail",
        f'  File "{tmp_path}/words_that_fail.py", line 5, in <module>',
        "    word()",
        f'  File "{tmp_path}/words_that_fail.py", line 2, in word',
        "    return {}['pear']",
    ]


def test_what_python_cannot_read_is_shown_with_its_place_and_the_way_there(tmp_path: Path) -> None:
    (tmp_path / "reads_broken.py").write_text("\nimport broken_words\n")
    (tmp_path / "broken_words.py").write_text("if True:\n    x = (1,,)\n")
    assert shown("reads_broken.py") == [
        "SyntaxError: invalid syntax",
        f'  File "{tmp_path}/reads_broken.py", line 2, in <module>',
        "    import broken_words",
        f'  File "{tmp_path}/broken_words.py", line 2',
        "    x = (1,,)",
        "           ^",
    ]


def test_a_manifest_that_cannot_be_read_has_no_more_than_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "greeter.yaml").write_text("name: [")
    assert shown("greeter.yaml") == []
