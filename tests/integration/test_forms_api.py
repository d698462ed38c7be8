"""Forms: text fields beside uploads are read by their type, and no file is lost for its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api_server import Api

RUN = "/api/v1/agents/@test/chat/run"
BOUNDARY = "----form"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server without workers: what it accepts stays pending."""
    settings = {"model": "openai:scripted", "model_base_url": "http://127.0.0.1:9/v1"}
    with Api(tmp_path_factory.mktemp("forms") / "home", **settings) as server:
        with server.client() as client:
            manifest = {"name": "@test/chat", "instructions": "Chat."}
            client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        yield server


def submitted(client: httpx2.Client, **fields: str) -> dict[str, Any]:
    """The stored task of a form with these text fields beside a file."""
    answer = client.post(RUN, data={"query": "read it"} | fields, files={"files": ("a.txt", b"text")})
    assert answer.status_code == 202, answer.text
    return dict(client.get(f"/tasks/{answer.json()['task_id']}").json())


@pytest.mark.parametrize(
    ("name", "text", "stored"),
    [
        ("model", "openai:gpt-5-mini", "openai:gpt-5-mini"),
        ("model", '"openai:gpt-5-mini"', "openai:gpt-5-mini"),
        ("callback", "http://127.0.0.1:8099/hook", {"url": "http://127.0.0.1:8099/hook", "headers": {}}),
        ("callback", '{"url": "http://127.0.0.1:8099/hook"}', {"url": "http://127.0.0.1:8099/hook"}),
        ("mode", "max", "max"),
        ("system", '"quoted"', '"quoted"'),
        ("streaming_tokens", "true", True),
        ("streaming_tokens", "off", False),
        ("budget", "0.5", 0.5),
        ("rules", '["be brief"]', ["be brief"]),
    ],
)
def test_an_option_beside_a_file_is_read_by_its_type(
    client: httpx2.Client, name: str, text: str, stored: Any
) -> None:
    options = submitted(client, **{name: text})["input"]["options"]
    given = options[name]
    assert {k: given[k] for k in stored} == stored if isinstance(stored, dict) else given == stored


def test_a_number_is_a_number_and_digits_in_a_text_field_stay_text(client: httpx2.Client) -> None:
    task = submitted(client, priority="7", session_id="123", query="42")
    assert task["priority"] == 7
    assert task["input"]["message"] == "42"


@pytest.mark.parametrize("text", ["60", "2099-01-01T00:00:00Z", '"2099-01-01T00:00:00Z"'])
def test_a_deadline_may_be_seconds_or_a_date(client: httpx2.Client, text: str) -> None:
    answer = client.post(RUN, data={"query": "x", "deadline": text}, files={"files": ("a.txt", b"x")})
    if text == "60":
        assert answer.status_code == 202
    else:  # read as a date, and refused as one that is too far
        assert answer.json()["code"] == "invalid_deadline"
        assert "30 days" in answer.json()["detail"]


def test_a_field_left_empty_in_a_form_is_not_given(client: httpx2.Client) -> None:
    task = submitted(client, deadline="", callback=" ", priority="", metadata="", args="")
    assert task["deadline"] is None
    assert "options" not in task["input"]


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("priority", "high", "invalid_field"),
        ("priority", "1.5", "invalid_field"),
        ("ttl", "soon", "invalid_field"),
        ("deadline", "0", "invalid_field"),
        ("deadline", "tomorrow", "invalid_deadline"),
        ("background", "maybe", "invalid_field"),
        ("mode", "slow", "invalid_field"),
        ("rules", "be brief", "bad_json"),
        ("output_config", "{", "bad_json"),
        ("args", "{", "bad_json"),
    ],
)
def test_a_wrong_field_is_named(client: httpx2.Client, name: str, text: str, code: str) -> None:
    answer = client.post(RUN, data={"query": "x", name: text}, files={"files": ("a.txt", b"x")})
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["field"]) == (code, name)


def raw_form(*dispositions: bytes) -> bytes:
    """A multipart body, each part with this Content-Disposition and its number as content."""
    parts = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%d\r\n" % (BOUNDARY.encode(), disposition, number)
        for number, disposition in enumerate(dispositions)
    ]
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY.encode()


def names_of(client: httpx2.Client, *dispositions: bytes) -> list[str]:
    """The names under which a run has the files sent with these headers."""
    answer = client.post(
        RUN,
        content=raw_form(*dispositions),
        headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    assert answer.status_code == 202, answer.text
    task = client.get(f"/tasks/{answer.json()['task_id']}").json()
    return [file["name"] for file in task["input"]["files"]]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b'filename=".."', "file"),
        (b'filename="."', "file"),
        (b'filename=""', "file"),
        (b'filename="a/../../etc/passwd"', "passwd"),
        (rb'filename="C:\\temp\\a.txt"', "a.txt"),
        (b'filename="a\x01\x7fb.txt"', "ab.txt"),
        ('filename="x\u202egpj.exe"'.encode(), "xgpj.exe"),
        (b'filename="con.txt"', "_con.txt"),
        (b'filename="' + b"n" * 300 + b'.pdf"', "n" * 251 + ".pdf"),
        (b"filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt", "Grüße.txt"),
        (b"filename*=UTF-8''..%2F..%2Fa.txt", "a.txt"),
        (b"filename*=UTF-8''", "file"),
        (b"filename*=nonsense", "nonsense"),
        (
            b"filename=\"=?utf-8?B?R3LDvMOfZS50eHQ=?=\"; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt",
            "Grüße.txt",
        ),
        (b'filename="=?utf-8?B?R3LDvMOfZS50eHQ=?="', "Grüße.txt"),
    ],
)
def test_a_file_gets_a_safe_name_and_is_not_lost(client: httpx2.Client, header: bytes, name: str) -> None:
    assert names_of(client, b"name=files; " + header) == [name]
    assert names_of(client, header + b'; name="files"') == [name]


def test_files_of_one_name_are_distinct(client: httpx2.Client) -> None:
    named = [
        b'name="files"; filename="a.txt"',
        b'name="files"; filename="A.txt"',
        b'name="file"; filename="a.txt"',
    ]
    assert names_of(client, *named) == ["a.txt", "A_1.txt", "a_2.txt"]


def test_a_second_file_for_a_datastore_is_refused_and_not_dropped(client: httpx2.Client) -> None:
    made = client.post("/agentbase/create-datastore", json={"name": "texts", "type": "documents"})
    files = [("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))]
    data = {"datastore_id": made.json()["datastore_id"]}
    answer = client.post("/agentbase/index-document", data=data, files=files)
    assert answer.status_code == 400
    assert "one file" in answer.text


def test_the_python_client_sends_text_arguments_beside_a_file(api: Api, tmp_path: Path) -> None:
    from runyard import Client

    (tmp_path / "a.txt").write_text("x")
    with Client(api.url, api.key) as client:
        run = client.run("@test/chat", "123", message="x", wait=False, files={"files": tmp_path / "a.txt"})
        assert client.get(run.id).raw["input"]["args"] == "123"
