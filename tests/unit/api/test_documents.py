"""The documents: the committed OpenAPI file, what it promises of every operation, and the pages."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runyard_api.access import cookies
from runyard_api.app import routes_of
from runyard_api.documents import docs_page, openapi
from runyard_api.fronts import operations
from runyard_api.http import errors
from runyard_api.http.error_codes import CODES
from runyard_api.http.uploads import file_name, media_type_of
from runyard_api.native.human_tasks import answer_page
from runyard_common.human_tasks.rules import Question
from runyard_common.identity.rules.roles import ALL
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.values.errors import RunyardError

ROOT = openapi.COPY.parents[1]


def test_the_committed_document_is_in_step() -> None:
    assert openapi.COPY.read_bytes() == openapi.text(operations()), (
        "run python -m runyard_api.documents.openapi --write"
    )


def test_every_operation_describes_what_it_does_and_who_may() -> None:
    for operation in operations():
        assert operation.summary, operation.name
        assert operation.answers, operation.name
        assert operation.permission is None or operation.permission in ALL | cookies.ACCOUNT, operation.name


def test_names_are_unique_and_references_lead_somewhere() -> None:
    document = openapi.document(operations())
    names = [o["operationId"] for methods in document["paths"].values() for o in methods.values()]
    assert len(names) == len(set(names))
    text = openapi.text(operations()).decode()
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert referred <= document["components"]["schemas"].keys()


def test_paths_without_placeholders_are_matched_before_those_with() -> None:
    order = [route.path for route in routes_of(operations())]  # type: ignore[attr-defined]
    assert order[0].endswith("/run")
    for prefix in ("/api/v1", "/v1", ""):
        assert order.index(f"{prefix}/tasks/cancel") < order.index(f"{prefix}/tasks/{{task_id}}")
    assert order.index("/api/v1/agents/manifests") < order.index("/api/v1/agents/{agent:agent}")


def test_no_path_is_answered_by_two_fronts() -> None:
    fronts: dict[tuple[str, str], str] = {}
    for operation in operations():
        for path in operation.paths:
            assert fronts.setdefault((operation.method, path), operation.name) == operation.name, path


def test_every_code_that_a_refusal_may_carry_is_explained() -> None:
    api = ROOT / "api/runyard_api"
    surfaces = [*(api / "surfaces").rglob("*.py")]  # they have codes of their own contracts
    sources = [source for source in api.rglob("*.py") if source not in surfaces]
    sources += (ROOT / "common/runyard_common").glob("*/service/*.py")
    used = {code for source in sources for code in re.findall(r'code="([a-z_]+)"', source.read_text())}
    assert len(used) > 60
    assert sorted(used - CODES.keys()) == [], "explain it in api/runyard_api/http/error_codes.py"


def test_a_problems_type_leads_to_its_explanation() -> None:
    page = docs_page.page(openapi.document(operations()))
    assert all(f"id='error-{code}'" in page for code in CODES)
    shown = errors.problem(RunyardError("x", code="bad_json"), "req_1")
    assert shown["type"] == "/docs#error-bad_json"


def test_the_documentation_page_holds_every_operation_and_no_script() -> None:
    document = openapi.document(operations())
    page = docs_page.page(document)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert f"id='{operation['operationId']}'" in page
    assert "<script" not in page
    assert " src=" not in page


def _asked(kind: str, payload: dict[str, Any]) -> Question:
    return Question("q", "o", "t", "key", kind, payload, None, None, 0.0)


def test_a_question_cannot_break_out_of_its_page() -> None:
    evil = "</main><script>alert(1)</script>"
    question = _asked("question", {"text": evil, "options": [evil, {"a": evil}]})
    review = _asked("review", {"action": evil, "arguments": {"x": evil}, "decisions": ["approve", evil]})
    for page in (answer_page.ask(question, evil), answer_page.ask(review), answer_page.gone(evil)):
        assert "<script" not in page
    assert "script" not in answer_page.HEADERS["content-security-policy"]
    assert "has ended" in answer_page.done(Status.FAILED)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [(None, "5", "5"), ({"type": "string"}, "5", "5"), ({"type": "integer"}, "5", 5), ({"type": "integer"}, "x", "x"),
     ({"enum": ["a", 1]}, "1", 1), ({"type": "object"}, '{"a": 1}', {"a": 1})],
)  # fmt: skip
def test_a_forms_text_becomes_what_the_question_wants(schema: object, text: str, value: object) -> None:
    assert answer_page.value_of(_asked("question", {"schema": schema}), text) == value


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\b.doc", "b.doc"),
        ("a\r\nb.txt", "ab.txt"),
        ("", "file"),
        (None, "file"),
        ("/", "file"),
        ("..", "file"),
        ("x" * 400 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
def test_file_names_are_names_only(given: str | None, name: str) -> None:
    assert file_name(given) == name


def test_a_media_type_is_believed_only_if_it_is_specific() -> None:
    assert media_type_of("text/csv; charset=x", "a.pdf") == "text/csv"
    assert media_type_of("application/octet-stream", "a.pdf") == "application/pdf"
    assert media_type_of("nonsense\r\n", "a.unknown") == "application/octet-stream"
