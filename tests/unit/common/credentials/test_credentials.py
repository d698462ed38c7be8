"""Credentials in documents: found by their fields' names, sealed by JSON pointer, put back, kept."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runyard_common.credentials.rules import documents
from runyard_common.credentials.rules.documents import SEALED
from runyard_common.values.errors import InvalidRequest

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
    shown, found = documents.split(MANIFEST)
    left = [value for value in VALUES if value in str(shown)]
    assert left == []
    assert documents.put_back(shown, found) == MANIFEST
    assert set(found) >= {
        "/mcp_servers/0/auth/token",
        "/mcp_servers/0/headers/a~1b~0c",
        "/config/smtp/password",
    }


def test_what_is_no_credential_stays_readable() -> None:
    shown, _ = documents.split(MANIFEST)
    assert shown["mcp_servers"][0]["auth"]["type"] == "bearer"
    assert shown["mcp_servers"][0]["serverUrl"] == f"https://mcp.example.com/?api_key={SEALED}&page=2"
    assert shown["mcp_servers"][1]["url"] == f"https://{SEALED}@example.com/"
    assert (shown["config"]["max_tokens"], shown["config"]["smtp"]["tls"]) == (100, True)
    assert (shown["input"], shown["instructions"]) == (MANIFEST["input"], MANIFEST["instructions"])
    assert shown["tools"][0]["name"] == "get_token"


def test_a_document_that_was_read_and_is_sent_again_keeps_its_credentials() -> None:
    shown, _ = documents.split(MANIFEST)
    assert documents.keep(shown, [MANIFEST]) == MANIFEST


def test_servers_may_change_places_and_one_credential_may_change() -> None:
    shown, _ = documents.split(MANIFEST)
    first, second = shown["mcp_servers"]
    changed = shown | {"mcp_servers": [second, first | {"auth": {"type": "bearer", "token": "NEW"}}]}
    kept = documents.keep(changed, [MANIFEST])["mcp_servers"]
    assert (kept[0]["auth"], kept[1]["auth"]["token"]) == ("PLAINAUTH", "NEW")
    assert kept[1]["headers"] == SERVER["headers"]


@pytest.mark.parametrize("change", [{"serverUrl": "https://elsewhere.example.net/"}, {"serverName": "other"}])
def test_a_credential_is_not_kept_for_another_address_or_server(change: dict[str, str]) -> None:
    server = {"serverName": "orders", "serverUrl": "https://mcp.example.com/", "auth": {"token": "BEARER"}}
    shown, _ = documents.split({"mcp_servers": [server]})
    moved = {"mcp_servers": [shown["mcp_servers"][0] | change]}
    with pytest.raises(InvalidRequest) as refused:
        documents.keep(moved, [{"mcp_servers": [server]}])
    assert (refused.value.code, refused.value.field) == ("credential_missing", "mcp_servers[0].auth.token")


def test_a_new_document_has_no_credential_to_keep() -> None:
    with pytest.raises(InvalidRequest) as refused:
        documents.keep({"config": {"password": SEALED}}, [])
    assert (refused.value.code, refused.value.field) == ("credential_missing", "config.password")


def test_stars_in_prose_mean_nothing() -> None:
    document = {"instructions": f"Write {SEALED}.", "config": {"greeting": SEALED}}
    assert documents.keep(document, []) == document


SIGNED = "https://a.blob.example/c/f.pdf?sp=r&sv=2022-11-02&sig=S3CRET%3D"
#: What programs pass credentials on in, each with S3CRET for the credential.
FORMS = {
    "a signature of a shared access": SIGNED,
    "a signature of S3": "https://b.s3.example/f?X-Amz-Expires=60&X-Amz-Signature=S3CRET",
    "a credential of S3": "https://b.s3.example/f?X-Amz-Credential=S3CRET&X-Amz-Expires=60",
    "a signature of Google": "https://storage.example/f?X-Goog-Expires=60&X-Goog-Signature=S3CRET",
    "an access token": "https://api.example/x?access_token=S3CRET",
    "a token": "https://api.example/x?page=2&token=S3CRET",
    "a key": "https://api.example/x?key=S3CRET",
    "a subscription key": "https://api.example/x?subscription-key=S3CRET",
    "a code of a function": "https://f.example/api/x?code=S3CRET==",
    "a user name alone": "https://S3CRET@git.example/x.git",
    "a password": "redis://:S3CRET@cache.example:6379/0",
    "a fragment": "https://app.example/#access_token=S3CRET&state=1",
    "a URL inside a command": "curl -s 'https://api.example/x?api_key=S3CRET' | tee out",
    "the second of two URLs": "https://a.example https://b.example/?sig=S3CRET",
    "the parameters alone": "sp=r&sv=2022-11-02&sig=S3CRET",
    "the parameters with their mark": "?sv=2022-11-02&sig=S3CRET",
    "one parameter": "?sig=S3CRET",
    "a connection string": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=S3CRET==",
    "a string of ODBC": "Server=db;Uid=app;Pwd=S3CRET;",
    "a string of libpq": "host=db user=app password=S3CRET",
    "a line of a header": "Authorization: Bearer S3CRET",
    "another header": "X-Api-Key: S3CRET",
    "an option of a command": "--api-key=S3CRET",
    "a variable": "OPENAI_API_KEY=S3CRET",
    "a scheme": "Bearer S3CRET-with-8-and-more",
}
#: What only looks alike.
READABLE = [
    "https://example.com/a?page=2&sort=keywords", "https://example.com/docs#section-2", "Bearer", "Basic membership",
    "Token authentication is used", "key=5", "a=b&c=d", "Note: the token is sent by mail", "width=3;height=4",
    "see https://example.com/tokens for more", "12:30", "signature_required", "https://example.com/?author=ada",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_credential_is_sealed_in_every_form_it_is_passed_on(form: str) -> None:
    document = {"config": {"source": FORMS[form], "list": [FORMS[form]]}}
    shown, found = documents.split(document)
    assert "S3CRET" not in str(shown)
    assert set(found) == {"/config/source", "/config/list/0"}
    assert documents.put_back(shown, found) == document
    assert documents.split(shown)[0] == shown
    assert documents.keep(shown, [document]) == document
    with pytest.raises(InvalidRequest, match="none is stored"):
        documents.keep(shown, [])


@pytest.mark.parametrize("text", READABLE)
def test_a_text_that_only_looks_like_one_stays_readable(text: str) -> None:
    document = {"config": {"source": text}}
    assert documents.split(document) == (document, {})


@pytest.mark.parametrize(
    "given",
    [
        {"sas": {"sv": "2022", "sig": "S3CRET"}},
        {"params": {"key": "S3CRET", "page": "2"}},
        {"query": {"code": "S3CRET"}},
        {"api_keys": ["S3CRET"]},
        {"apiKey2": "S3CRET"},
        {"variables": [{"name": "SLACK_TOKEN", "value": "S3CRET"}]},
        {"extra": [{"key": "X-Auth-Token", "value": "S3CRET"}]},
        {"X-Functions-Key": "S3CRET"},
    ],
)
def test_fields_of_these_names_are_sealed(given: dict[str, Any]) -> None:
    shown, found = documents.split({"config": given})
    assert "S3CRET" not in str(shown)
    assert documents.put_back(shown, found) == {"config": given}


def test_ordinary_words_stay_readable() -> None:
    plain = {
        "keywords": ["a"], "author": "Ada", "authors": ["Ada"], "signature_required": True, "key": "left", "code": "nl",
        "keyboard": "qwerty", "sort_key": "name", "primary_key": "id", "tokenizer": "bpe", "max_tokens": 100,
        "secretary": "Bob", "passport": "yes", "monkey": "see", "signal": "sig", "country_code": "NL",
        "variables": [{"name": "COUNTRY", "value": "NL"}], "parameters": {"page": "2", "keywords": "x"},
    }  # fmt: skip
    assert documents.split({"config": plain}) == ({"config": plain}, {})


def test_long_texts_are_searched_in_little_time() -> None:
    began = time.process_time()
    for text in (
        "a" * 2_000_000,
        "a=" * 1_000_000,
        "a://" * 500_000,
        "a;=" * 500_000,
        "Bearer " + "x" * 2_000_000,
    ):
        documents.split({"config": {"text": text}})
    assert time.process_time() - began < 5


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
def test_for_every_document_split_and_put_back_are_inverse(document: dict[str, Any]) -> None:
    shown, found = documents.split(document)
    assert documents.put_back(shown, found) == document
    assert documents.split(shown)[0] == shown
