"""Sealing, roles, and credentials taken out of a request and put back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from cryptography.fernet import Fernet

from runyard_common.credentials.rules.sealing import SealBroken, Sealer, new_key
from runyard_common.identity.rules.roles import (
    ALL,
    PERMISSIONS,
    Role,
    check_scopes,
    exceeds,
    granted,
    strongest,
)
from runyard_common.runs.service.bulk import sealed_at
from runyard_common.values.errors import ConfigurationError, InvalidRequest


def test_what_is_sealed_opens_with_the_same_key_alone() -> None:
    sealer = Sealer(new_key())
    sealed = sealer.seal({"token": "s3cret", "n": [1, None]})
    assert b"s3cret" not in sealed
    assert sealer.open(sealed) == {"token": "s3cret", "n": [1, None]}
    with pytest.raises(SealBroken):
        Sealer(new_key()).open(sealed)
    with pytest.raises(SealBroken):
        sealer.open(sealed[:-2] + b"xx")


def test_a_replaced_key_still_opens_and_no_longer_seals() -> None:
    old, new = new_key(), "any other long passphrase"
    sealed = Sealer(old).seal("x")
    both = Sealer(f"{new}, {old}")
    assert both.open(sealed) == "x"
    with pytest.raises(SealBroken):
        Sealer(old).open(both.seal("y"))


def test_a_fernet_key_is_used_as_it_is() -> None:
    key = new_key()
    assert Fernet(key).decrypt(Sealer(key).seal(1)) == b"1"


def test_a_short_key_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        Sealer("short")


def test_each_role_holds_all_the_weaker_ones_hold() -> None:
    ranked = [PERMISSIONS[role] for role in Role]
    assert all(stronger > weaker for stronger, weaker in pairwise(ranked))
    assert exceeds(Role.OWNER, Role.ADMIN)
    assert not exceeds(Role.VIEWER, Role.VIEWER)
    assert strongest(["viewer", "wizard", "admin"]) is Role.ADMIN
    assert strongest(["wizard"]) is None


def test_scopes_cut_down_and_never_add() -> None:
    assert granted(Role.VIEWER, ["runs:read", "limits:write"]) == {"runs:read"}
    assert granted(Role.ADMIN, ["limits:*"]) == {"limits:read", "limits:write", "limits:delete"}
    assert granted(Role.MEMBER, []) == frozenset()
    assert granted(Role.MEMBER, ["agents:run"]) == {"agents:run", "runs:create"}
    check_scopes(ALL)
    with pytest.raises(InvalidRequest):
        check_scopes(["everything:*"])


def test_a_viewer_changes_nothing() -> None:
    assert {permission.split(":")[1] for permission in PERMISSIONS[Role.VIEWER]} == {"read"}


def test_a_credential_is_recognised_by_its_place_and_not_by_its_text() -> None:
    options = {
        "rules": ["********", "Never repeat ********."],
        "instructions": "********",
        "callback": {"url": "https://a.example/", "headers": {"x/key": "********"}},
        "mcp_servers": [
            {
                "serverName": "s",
                "serverUrl": "https://b.example/?api_key=********",
                "auth": {"token": "********"},
            },
            {"serverName": "t", "serverUrl": "https://c.example/", "description": "********"},
        ],
    }
    assert sealed_at(options) == [
        "/mcp_servers/0/serverUrl", "/mcp_servers/0/auth/token", "/callback/headers/x~1key",
    ]  # fmt: skip
