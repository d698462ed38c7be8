"""Signatures hold in strangers' verifiers: the published Python and JavaScript libraries."""

from __future__ import annotations

import base64
import fcntl
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from runyard_common.webhooks.rules.signing import (
    SecretInvalid,
    SignatureInvalid,
    check_secret,
    new_secret,
    sign,
    verify,
)

NODE_FOLDER = Path(__file__).parents[2] / ".test" / "node"
NODE_PACKAGE = "standardwebhooks@1"

#: Reads a list of {secret, headers, body} and answers, for each, what the library makes of it.
NODE_VERIFIER = """
const { Webhook } = require("standardwebhooks");
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(({ secret, headers, body }) => {
  try {
    const at = new Date(Number(headers["webhook-timestamp"]) * 1000);
    const signature = new Webhook(secret).sign(headers["webhook-id"], at, body);
    return { verified: new Webhook(secret).verify(body, headers), signature };
  } catch (error) {
    return { refused: error.message };
  }
})));
"""

CONTENTS = [
    b"{}",
    b'{"type":"run.completed","data":{"n":1.5}}',
    '{"text":"Grüße, 世界 🌍","zero":"\\u0000","line":"a\\nb"}'.encode(),
    json.dumps({"large": "x" * 300_000}).encode(),
]


@pytest.fixture(scope="session")
def node() -> str:
    """The Node program, with the library beside it; installed on first use."""
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        pytest.fail("Node.js with npm is needed to check signatures in JavaScript: install nodejs and npm.")
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    with (NODE_FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test processes install once
        if not (NODE_FOLDER / "node_modules" / "standardwebhooks" / "package.json").exists():
            _install()
    return program


def _install() -> None:
    options = ["--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = ["npm", "install", "--prefix", str(NODE_FOLDER), *options, NODE_PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=40)
        failure = done.stderr[-500:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = "no answer within 40 s"
    if failure:
        pytest.fail(
            f"npm could not install {NODE_PACKAGE}, which checks signatures in JavaScript. Make npm's "
            f"registry reachable, or run `npm install --prefix .test/node {NODE_PACKAGE}` by hand. "
            f"It failure: {failure}",
            pytrace=False,
        )


def in_node(program: str, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [program, "-e", NODE_VERIFIER],
        cwd=NODE_FOLDER,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def signed(secrets: list[str], body: bytes, **changes: str) -> dict[str, str]:
    return sign(secrets, "evt_1", body, now=time.time(), attempt=1) | changes


def test_the_headers_of_an_attempt() -> None:
    headers = sign([new_secret()], "evt_42", b"{}", now=1_700_000_000.9, attempt=3)

    assert headers | {"webhook-signature": ""} == {
        "webhook-id": "evt_42",
        "webhook-timestamp": "1700000000",
        "webhook-signature": "",
        "webhook-attempt": "3",
    }


def test_a_known_vector() -> None:
    """HMAC-SHA256 over id.timestamp.body by OpenSSL: `openssl dgst -sha256 -hmac … -binary | base64`."""
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()

    headers = sign([secret], "evt_1", b'{"a":1}', now=1_700_000_000, attempt=1)

    assert headers["webhook-signature"] == "v1,E91RjL3XwKNvhbIjLEB4Oo053Uu727CszikrY+6s9HE="


def test_the_time_zone_of_the_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        secret = new_secret()
        standardwebhooks.Webhook(secret).verify(b"{}", signed([secret], b"{}"))
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("body", CONTENTS, ids=["empty", "numbers", "unicode", "large"])
def test_the_python_library_verifies(body: bytes) -> None:
    for _ in range(20):
        secret = new_secret()
        assert standardwebhooks.Webhook(secret).verify(body, signed([secret], body)) == json.loads(body)


def test_the_javascript_library_verifies_and_signs_the_same(node: str) -> None:
    cases: list[dict[str, Any]] = []
    for body in CONTENTS:
        for _ in range(20):
            secret = new_secret()
            cases.append({"secret": secret, "headers": signed([secret], body), "body": body.decode()})

    answers = in_node(node, cases)

    assert len(answers) == 80
    for case, answer in zip(cases, answers, strict=True):
        assert answer == {
            "verified": json.loads(case["body"]),
            "signature": case["headers"]["webhook-signature"],
        }


def test_both_libraries_accept_either_secret_during_a_rotation_and_no_third(node: str) -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = signed([new, old], b'{"a":1}')

    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        assert standardwebhooks.Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}
    answers = in_node(node, [{"secret": s, "headers": headers, "body": '{"a":1}'} for s in (old, new, other)])
    assert [answer.get("verified") for answer in answers] == [{"a": 1}, {"a": 1}, None]
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(other).verify(b'{"a":1}', headers)


def test_both_libraries_refuse_what_was_changed_on_the_way(node: str) -> None:
    secret = new_secret()
    headers = signed([secret], b'{"a":1}')
    stale = sign([secret], "evt_1", b'{"a":1}', now=time.time() - 600, attempt=1)
    tampered = [
        (b'{"a":2}', headers),
        (b'{"a":1}', headers | {"webhook-id": "evt_2"}),
        (b'{"a":1}', headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        (b'{"a":1}', stale),
    ]

    for body, changed in tampered:
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(body, changed)
        with pytest.raises(SignatureInvalid):
            verify(secret, changed, body)
    cases = [{"secret": secret, "headers": changed, "body": body.decode()} for body, changed in tampered]
    assert all("refused" in answer for answer in in_node(node, cases))


def test_our_own_check_agrees() -> None:
    secret = new_secret()
    verify(
        secret, {name.title(): value for name, value in signed([secret], CONTENTS[2]).items()}, CONTENTS[2]
    )


@pytest.mark.parametrize("signature", ["", "v1", "v1,", "v1,!!!", "v1,a", "v2,aaaa", "v1,a,b"])
def test_a_malformed_signature_is_refused_not_a_crash(signature: str) -> None:
    secret = new_secret()
    with pytest.raises(SignatureInvalid):
        verify(secret, signed([secret], b"{}", **{"webhook-signature": signature}), b"{}")


class TestSecrets:
    def test_a_new_secret_is_standard_base64_of_32_bytes(self) -> None:
        made = {new_secret() for _ in range(200)}

        assert len(made) == 200
        for secret in made:
            check_secret(secret)
            assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
        assert any("+" in secret or "/" in secret for secret in made)

    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "whsec_",
            "whsec_short",
            "whsec_" + base64.b64encode(bytes(23)).decode(),
            "whsec_" + base64.b64encode(bytes(65)).decode(),
            "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
            "whsec_" + base64.b64encode(bytes(32)).decode().rstrip("="),
            base64.b64encode(bytes(32)).decode(),
            "whsec_é" + base64.b64encode(bytes(32)).decode(),
        ],
    )
    def test_a_secret_that_verifiers_read_differently_is_refused_unquoted(self, secret: str) -> None:
        with pytest.raises(SecretInvalid) as caught:
            check_secret(secret)
        assert caught.value.code == "secret_invalid"
        assert not secret or secret not in caught.value.message.replace("whsec_ followed", "")
        with pytest.raises(SecretInvalid):
            sign([secret], "evt_1", b"{}", now=0, attempt=1)

    def test_there_is_always_a_secret(self) -> None:
        with pytest.raises(SecretInvalid):
            sign([], "evt_1", b"{}", now=0, attempt=1)


@given(st.text(max_size=200))
def test_any_text_signed_is_verified(text: str) -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    body = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    verify(secret, signed([secret], body), body)
