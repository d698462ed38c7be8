"""Credentials in documents: found by their fields' names, sealed by JSON pointer, put back, kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.domain import credentials
from common.domain.credentials import SEALED
from common.domain.errors import InvalidRequest

SERVER = {
    "serverName": "orders",
    "serverUrl": "https://mcp.example.com/?api_key=QUERYKEY&page=2",
    "auth": {"type": "bearer", "token": "BEARER"},
    "headers": {"X-Tenant": "HEADER", "a/b~c": "ODDHEADER"},
    "tools": ["find_order"],
    "effects": {"find_order": "read"},
}
MANIFEST: dict[str, Any] = {
    "name": "@test/bot",
    "instructions": "Never say the password: hunter2.",
    "mcp_servers": [SERVER, {"name": "b", "url": "https://u:PASSWORD@example.com/", "auth": "PLAINAUTH"}],
    "tools": [{"name": "get_token", "effect": "read", "settings": {"apiKey": "TOOLKEY"}}],
    "config": {
        "max_tokens": 100,
        "mcp_servers": [
            {
                "serverName": "c",
                "serverUrl": "https://c.example.com",
                "auth": {"oauth": {"accessToken": "OAUTH"}},
            }
        ],
        "smtp": {"host": "mail.example.com", "password": 12345678, "tls": True},
        "database": "postgresql://app:DBPASSWORD@db.example.com/app",
        "env": {"STRIPE": "ENVKEY"},
        "clientSecret": "CLIENTSECRET",
    },
    "input": {
        "schema": {"type": "object", "properties": {"password": {"type": "string", "default": "shown"}}}
    },
}
VALUES = (
    "QUERYKEY", "BEARER", "HEADER", "ODDHEADER", "PASSWORD", "PLAINAUTH", "TOOLKEY", "OAUTH", "12345678",
    "DBPASSWORD", "ENVKEY", "CLIENTSECRET",
)  # fmt: skip


def test_no_credential_of_a_manifest_is_left_in_it_and_all_are_put_back() -> None:
    shown, found = credentials.split(MANIFEST)
    left = [value for value in VALUES if value in str(shown)]
    assert left == []
    assert credentials.put_back(shown, found) == MANIFEST
    assert set(found) >= {
        "/mcp_servers/0/auth/token",
        "/mcp_servers/0/headers/a~1b~0c",
        "/config/smtp/password",
    }


def test_what_is_no_credential_stays_readable() -> None:
    shown, _ = credentials.split(MANIFEST)
    assert shown["mcp_servers"][0]["auth"]["type"] == "bearer"
    assert shown["mcp_servers"][0]["serverUrl"] == f"https://mcp.example.com/?api_key={SEALED}&page=2"
    assert shown["mcp_servers"][1]["url"] == f"https://{SEALED}@example.com/"
    assert (shown["config"]["max_tokens"], shown["config"]["smtp"]["tls"]) == (100, True)
    assert (shown["input"], shown["instructions"]) == (MANIFEST["input"], MANIFEST["instructions"])
    assert shown["tools"][0]["name"] == "get_token"


def test_a_document_that_was_read_and_is_sent_again_keeps_its_credentials() -> None:
    shown, _ = credentials.split(MANIFEST)
    assert credentials.keep(shown, [MANIFEST]) == MANIFEST


def test_servers_may_change_places_and_one_credential_may_change() -> None:
    shown, _ = credentials.split(MANIFEST)
    first, second = shown["mcp_servers"]
    changed = shown | {"mcp_servers": [second, first | {"auth": {"type": "bearer", "token": "NEW"}}]}
    kept = credentials.keep(changed, [MANIFEST])["mcp_servers"]
    assert (kept[0]["auth"], kept[1]["auth"]["token"]) == ("PLAINAUTH", "NEW")
    assert kept[1]["headers"] == SERVER["headers"]


@pytest.mark.parametrize("change", [{"serverUrl": "https://elsewhere.example.net/"}, {"serverName": "other"}])
def test_a_credential_is_not_kept_for_another_address_or_server(change: dict[str, str]) -> None:
    server = {"serverName": "orders", "serverUrl": "https://mcp.example.com/", "auth": {"token": "BEARER"}}
    shown, _ = credentials.split({"mcp_servers": [server]})
    moved = {"mcp_servers": [shown["mcp_servers"][0] | change]}
    with pytest.raises(InvalidRequest) as refused:
        credentials.keep(moved, [{"mcp_servers": [server]}])
    assert (refused.value.code, refused.value.field) == ("credential_missing", "mcp_servers[0].auth.token")


def test_a_new_document_has_no_credential_to_keep() -> None:
    with pytest.raises(InvalidRequest) as refused:
        credentials.keep({"config": {"password": SEALED}}, [])
    assert (refused.value.code, refused.value.field) == ("credential_missing", "config.password")


def test_stars_in_prose_mean_nothing() -> None:
    document = {"instructions": f"Write {SEALED}.", "config": {"greeting": SEALED}}
    assert credentials.keep(document, []) == document


_names = st.sampled_from(
    ["auth", "token", "url", "name", "a/b", "~", "0", "headers", "schema", "type", "note"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("https://u:p@h/?key=v"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first value waits for its strategies
@given(st.dictionaries(_names, _values, max_size=4))
def test_whatever_the_document_split_and_put_back_are_inverse(document: dict[str, Any]) -> None:
    shown, found = credentials.split(document)
    assert credentials.put_back(shown, found) == document
    assert credentials.split(shown)[0] == shown
