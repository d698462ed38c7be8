"""The appstrate contract: files of a run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.appstrate import caller, problem, publish, start
from tests.contract.live import Live

pytestmark = pytest.mark.timeout(300)


FILES = {
    "type": "object",
    "properties": {
        "doc": {"type": "string", "format": "uri", "contentMediaType": "text/plain"},
        "more": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "string", "format": "uri", "contentMediaType": "text/plain"},
        },
        "n": {"type": "integer"},
    },
    "required": ["doc"],
}


BOUNDS = {"doc": {"maxSize": 10, "accept": ".txt,.md"}}


class TestFiles:
    def upload(self, live: Live, *files: tuple[str, str, bytes], **options: Any) -> Any:
        """The answer to a run with these (field, name, content) uploads, and the client."""
        with caller(live) as client:
            package = publish(client, FILES, input={"fileConstraints": BOUNDS})
            parts = [(field, (name, content)) for field, name, content in files]
            answer = client.post(f"/api/agents/{package}/run", files=parts, **options)
            if answer.status_code != 200:
                return answer
            return client.get(f"/tasks/{answer.json()['runId'].removeprefix('exec_')}").json()

    def test_files_arrive_in_parts_named_after_the_property(self, live: Live) -> None:
        task = self.upload(
            live, ("doc", "a.txt", b"1"), ("more", "b.txt", b"2"), ("more", "c.txt", b"3"),
            data={"input": '{"n": "3"}'},
        )  # fmt: skip

        assert task["input"]["args"] == {"n": 3, "doc": "a.txt", "more": ["b.txt", "c.txt"]}
        assert [(f["field"], f["name"], f["size"]) for f in task["input"]["files"]] == [
            ("doc", "a.txt", 1),
            ("more", "b.txt", 1),
            ("more", "c.txt", 1),
        ]

    def test_a_file_name_that_comes_twice_gets_a_number(self, live: Live) -> None:
        task = self.upload(live, ("doc", "a.txt", b"1"), ("more", "a.txt", b"2"))

        assert [f["name"] for f in task["input"]["files"]] == ["a.txt", "a_1.txt"]

    @pytest.mark.parametrize(
        ("files", "param"),
        [
            ([("more", "b.txt", b"2")], "doc"),
            ([("doc", "a.txt", b"1"), ("doc", "b.txt", b"1")], "doc"),
            ([("doc", "a.txt", b"1"), *[("more", f"{i}.txt", b"1") for i in range(3)]], "more"),
            ([("doc", "a.txt", b"x" * 11)], "doc"),
            ([("doc", "a.exe", b"1")], "doc"),
            ([("doc", "a.txt", b"1"), ("other", "b.txt", b"1")], "other"),
        ],
    )
    def test_the_first_violation_is_400_and_names_the_field(self, live: Live, files: Any, param: str) -> None:
        problem(self.upload(live, *files), 400, "invalid_request", param)

    def test_json_for_an_agent_with_file_fields_is_400(self, live: Live) -> None:
        with caller(live) as client:
            problem(start(client, publish(client, FILES)), 400, "invalid_request", "doc")
