"""docs/limits.md is in step with the tables that the code enforces and with the routes."""

from __future__ import annotations

import pytest

from runyard_api.documents import limits_page
from runyard_api.http.error_codes import CODES
from runyard_common.identity.rules.caps import CAPS
from runyard_common.settings import Settings
from runyard_common.values.bounds import BOUNDS, RUN_BOUNDS


@pytest.mark.documents
def test_the_committed_page_is_in_step() -> None:
    text = limits_page.PAGE.read_text()
    assert limits_page.page(text) == text, (
        "run: .venv/bin/python -m runyard_api.documents.limits_page --write"
    )


def test_every_code_is_explained_with_its_status() -> None:
    found = {bound.code: bound.status for bound in BOUNDS.values()} | {cap.code: 409 for cap in CAPS.values()}
    assert {code: CODES[code][0] for code in found} == found


def test_every_setting_has_the_bound_as_its_default() -> None:
    named = {bound.setting: bound.most for bound in BOUNDS.values() if bound.setting}
    named |= {bound.setting: bound.most for bound in RUN_BOUNDS if bound.setting}
    named |= {cap.setting: cap.default for cap in CAPS.values()}
    assert {name: Settings.model_fields[name].default for name in named} == named
