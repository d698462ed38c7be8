"""API surfaces: registered by name, in order, and named nowhere but in their folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runyard_common import surfaces
from runyard_common.values.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
FOLDERS = ("common", "workers", "scheduler", "runyard", "launch", "api")
VENDORS = tuple(name for name in surfaces.registered() if name != "native")


def test_they_stand_in_their_order_behind_the_native_api() -> None:
    assert tuple(surfaces.registered()) == ("native", "nara", "nugen", "agentbase", "appstrate")


def test_what_the_server_starts_itself_is_native() -> None:
    assert surfaces.of("child") is surfaces.of("native") is surfaces.NATIVE


def test_a_style_whose_surface_is_gone_has_no_bodies() -> None:
    assert surfaces.webhooks("gone") is None
    assert list(surfaces.webhook_styles()) == ["native", "appstrate"]


def test_no_surface_is_named_outside_its_folder() -> None:
    named = re.compile(rf"(?i)(?:\b|_)(?:{'|'.join(VENDORS)})")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "surfaces/" not in path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if named.search(line)
    ]
    assert found == []


def test_an_operator_changes_the_rate_of_a_surface_that_has_one() -> None:
    assert surfaces.rates({}) == {"agentbase": 6000}
    assert surfaces.rates({"agentbase": 3}) == {"agentbase": 3}
    with pytest.raises(ConfigurationError, match="'nara' has no rate; those with one: agentbase"):
        surfaces.rates({"nara": 3})
