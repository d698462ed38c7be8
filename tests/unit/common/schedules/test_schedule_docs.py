"""docs/schedules.md names every code, note and policy the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runyard_common.schedules.rules.catchup import CatchUp
from runyard_common.schedules.rules.cron_line import ALIASES
from runyard_common.schedules.rules.policies import Overlap
from runyard_common.schedules.rules.preview import ClockNote
from runyard_common.values.errors import ScheduleError

PAGE = (Path(__file__).parents[4] / "docs" / "schedules.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", [*CatchUp, *Overlap, *ClockNote])
def test_the_page_names_every_policy_and_note(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_the_page_names_every_alias() -> None:
    assert " ".join(sorted(ALIASES)) == " ".join(
        sorted(set(re.findall(r"@[a-z]+", PAGE.split("### Cron lines")[1])) - {"@reboot", "@every"})
    )


def test_the_page_and_the_error_name_the_same_codes() -> None:
    table = PAGE.split("## Refusals")[1].replace("`code`", "")
    codes = set(re.findall(r"`([a-z_]+)`", re.sub(r"\| [^|]*\|$", "|", table, flags=re.MULTILINE)))
    assert codes == set(re.findall(r"``([a-z_]+)``", ScheduleError.__doc__ or ""))
