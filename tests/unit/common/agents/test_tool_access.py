"""Who may use which registered tool."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_common.agents.rules import tool_access
from runyard_common.agents.rules.tool_access import PublicTools

MANIFEST: dict[str, Any] = {
    "tools": [
        "pay",
        "ask_user",
        "@shop/clerk",
        {"name": "look", "effect": "read"},
        {"name": "ask", "agent": "@a/b"},
    ],
    "mcp_servers": [{"serverName": "orders", "tools": ["find"]}, {"name": "all"}],
}


@pytest.mark.parametrize(
    ("requested", "by_operator", "wanted"),
    [
        (None, True, []),
        (None, False, ["pay", "look"]),
        (["pay"], True, []),
        (["pay"], False, ["pay"]),
        (["refund"], True, ["refund"]),
        (["orders_find", "all_any", "ask_user", "@x/y", "ask"], False, []),
        (["orders_cancel"], True, ["orders_cancel"]),
        ([], False, []),
    ],
)
def test_what_a_run_needs_to_be_open(
    requested: list[str] | None, by_operator: bool, wanted: list[str]
) -> None:
    assert tool_access.wanted(MANIFEST, requested, by_operator) == wanted


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [("", False), ("pay", True), ("look, pay", True), ("*", True), ("pay@shop", True), ("*@shop", True),
     ("pay@other", False), ("Pay", False)],
)  # fmt: skip
def test_the_setting_opens_tools_by_name_for_all_or_for_one_organisation(setting: str, allowed: bool) -> None:
    assert PublicTools.parse(setting).allows("pay", "shop") is allowed


@pytest.mark.parametrize(
    ("declared", "wished", "effect"),
    [
        ("irreversible", "read", "irreversible"),
        ("read", "irreversible", "irreversible"),
        ("idempotent", None, "idempotent"),
        ("idempotent", "nonsense", "idempotent"),
        ("read", ["irreversible"], "read"),
    ],
)
def test_a_manifest_only_tightens_an_effect(declared: str, wished: Any, effect: str) -> None:
    assert tool_access.tightest(declared, wished) == effect
