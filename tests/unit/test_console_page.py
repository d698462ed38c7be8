"""docs/console.md and the README show pictures that `make screenshots` makes, and all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.console_pictures import FOLDER, PAGES, SCHEMES, stored

pytestmark = pytest.mark.documents
ROOT = Path(__file__).parents[2]
MADE = {f"{name}-{scheme}.png" for name in PAGES for scheme in SCHEMES}


def shown(page: str) -> set[str]:
    return set(re.findall(r"images/console/([\w-]+\.png)", (ROOT / page).read_text()))


def test_each_picture_is_made_shown_and_small() -> None:
    assert {file.name for file in FOLDER.glob("*.png")} == MADE
    assert shown("docs/console.md") == MADE
    assert shown("README.md") <= MADE
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 2_000_000


def test_each_page_of_a_picture_has_an_outline() -> None:
    assert stored().keys() == PAGES.keys()
    assert all(parts for parts in stored().values())
