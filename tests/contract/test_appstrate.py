"""The appstrate contract: starting runs (contracts' sections 1 to 8), fact by fact."""

from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.appstrate import REQUEST_ID, caller, ended, problem, publish, run_id, start
from tests.contract.live import Live

pytestmark = pytest.mark.timeout(300)

GIVES = "@default/gives"
RUN_ID = re.compile(r"exec_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NUMBER = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "to": {"type": "string"}, "yes": {"type": "boolean"}},
    "required": ["n", "to"],
}


class TestRun:
    def test_a_run_answers_its_id_at_once(self, live: Live) -> None:
        with caller(live) as client:
            answer = start(client, GIVES, {"value": 1})

        assert answer.status_code == 200
        assert answer.json().keys() == {"runId"}
        assert RUN_ID.fullmatch(answer.json()["runId"])

    def test_the_task_is_the_native_apis_too_with_its_origin(self, live: Live) -> None:
        with caller(live) as client:
            task = live.until(run_id(client, GIVES, {"value": 7}).removeprefix("exec_"))

        assert task["front"] == "appstrate"
        assert task["output"] == 7
        assert task["input"]["args"] == {"value": 7}

    def test_every_answer_names_its_request_and_the_api_version(self, live: Live) -> None:
        with caller(live) as client:
            for answer in (start(client, GIVES), start(client, "@no/body")):
                assert REQUEST_ID.fullmatch(answer.headers["request-id"])
                assert answer.headers["appstrate-version"] == "2026-03-21"

    def test_success_and_refusals_carry_the_rate_limit(self, live: Live) -> None:
        with caller(live) as client:
            answer = start(client, GIVES)
            refused = start(client, GIVES, headers={"idempotency-key": "x" * 256})

        assert answer.headers["ratelimit-policy"] == "20;w=60"
        assert re.fullmatch(r"limit=20, remaining=19, reset=([1-9]|[1-5]\d|60)", answer.headers["ratelimit"])
        assert refused.status_code == 400
        assert "remaining=18" in refused.headers["ratelimit"]

    def test_no_credentials_are_401(self, live: Live) -> None:
        with live.client("") as anonymous:
            body = problem(start(anonymous, GIVES), 401, "unauthorized")

        assert body["title"] == "Unauthorized"

    @pytest.mark.parametrize("key", ["ask_" + "0" * 48, "ry_" + "0" * 48, "a.b.c", "?"])
    def test_bad_keys_are_401(self, live: Live, key: str) -> None:
        with live.client(key) as stranger:
            problem(start(stranger, GIVES), 401, "unauthorized")

    @pytest.mark.parametrize("package", ["@no/body", "default/gives", "@Default/gives", "@default/%00"])
    def test_an_unknown_agent_is_404(self, live: Live, package: str) -> None:
        with caller(live) as client:
            answer = start(client, package)

        if "%" in package:
            problem(answer, 404, "not_found")
        else:
            assert problem(answer, 404, "agent_not_found")["title"] == "Agent Not Found"

    def test_another_organisations_agent_is_404(self, live: Live) -> None:
        _, key = live.new_organisation()
        with live.client(key) as other, caller(live) as client:
            problem(start(client, publish(other)), 404, "agent_not_found")

    def test_without_the_permission_it_is_403_but_the_agent_is_looked_up_first(self, live: Live) -> None:
        with caller(live, "viewer") as client:
            problem(start(client, GIVES), 403, "forbidden")
            problem(start(client, "@no/body"), 404, "agent_not_found")

    def test_a_key_with_the_one_scope_may_run(self, live: Live) -> None:
        with caller(live, "member", ["agents:run"]) as client:
            assert start(client, GIVES).status_code == 200

    def test_an_organisation_without_credits_is_402(self, live: Live) -> None:
        _, key = live.new_organisation(balance_micros=0)
        with live.client(key) as broke:
            body = problem(start(broke, publish(broke)), 402, "quota_exceeded")

        assert body["title"] == "Payment Required"


class TestBody:
    @pytest.mark.parametrize("content", [b"", b"{nope", b"{}", b'{"unknown": 1, "config": {}}'])
    def test_an_unreadable_or_missing_body_is_an_empty_object(self, live: Live, content: bytes) -> None:
        with caller(live) as client:
            answer = client.post(
                f"/api/agents/{GIVES}/run", content=content, headers={"content-type": "application/json"}
            )

        assert answer.status_code == 200, answer.text

    def test_the_pages_sample_call_works(self, live: Live) -> None:
        """Only base URL, names and the key, which the page leaves out, are other."""
        done = subprocess.run(
            [
                *("curl", "-s", "-X", "POST", live.url(f"/api/agents/{GIVES}/run")),
                *("-H", f"Authorization: Bearer {live.key_of('admin')}"),
                *("-H", "Content-Type: application/json", "-d", "{}"),
            ],
            capture_output=True,
            timeout=60,
            check=True,
        )

        assert json.loads(done.stdout).keys() == {"runId"}

    def test_input_is_coerced_to_the_schemas_types(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, publish(client, NUMBER), {"n": "7", "to": 5, "yes": "true"})
            run = client.get(f"/api/runs/{id_}").json()

        assert run["input"] == {"n": 7, "to": "5", "yes": True}

    @pytest.mark.parametrize(
        ("given", "param"),
        [
            ({"to": "x"}, "n"),
            ({"n": "seven", "to": "x"}, "n"),
            ({"n": 1, "to": ""}, "to"),
            ({"n": 1, "to": {}}, "to"),
            ([1], "input"),
        ],
    )
    def test_input_that_breaks_the_schema_is_400_and_names_the_field(
        self, live: Live, given: Any, param: str
    ) -> None:
        with caller(live) as client:
            problem(start(client, publish(client, NUMBER), given), 400, "invalid_request", param)

    def test_without_schema_properties_anything_goes(self, live: Live) -> None:
        with caller(live) as client:
            package = publish(client, {"type": "object", "required": ["never"]})
            assert start(client, package, {"what": ["ever"]}).status_code == 200

    def test_a_model_id_beats_the_agents_model(self, live: Live) -> None:
        with caller(live) as client:
            answer = client.post(
                f"/api/agents/{publish(client)}/run", json={"modelId": "openai:other", "proxyId": "none"}
            )
            run = client.get(f"/api/runs/{answer.json()['runId']}").json()

        assert run["modelLabel"] == "openai:other"


class TestReadiness:
    def test_an_agent_without_a_prompt_is_400(self, live: Live) -> None:
        with caller(live) as client:
            problem(start(client, publish(client, instructions=" ")), 400, "empty_prompt")

    def test_missing_configuration_is_400(self, live: Live) -> None:
        config = {"schema": {"properties": {"a": {"default": 1}, "b": {}}, "required": ["a", "b"]}}
        with caller(live) as client:
            problem(start(client, publish(client, config=config)), 400, "config_incomplete", "config.b")
            assert start(client, publish(client, config=config | {"b": 2})).status_code == 200

    def test_input_is_judged_before_readiness(self, live: Live) -> None:
        with caller(live) as client:
            package = publish(client, NUMBER, instructions="")
            problem(start(client, package), 400, "invalid_request", "n")


class TestHeaders:
    @pytest.mark.parametrize(
        ("version", "code"),
        [
            ("today", "invalid_api_version"),
            ("2026-13-01", "invalid_api_version"),
            ("2026-3-21", "invalid_api_version"),
            ("2020-01-01", "unsupported_api_version"),
        ],
    )
    def test_a_bad_api_version_is_400(self, live: Live, version: str, code: str) -> None:
        with caller(live) as client:
            answer = start(client, GIVES, headers={"appstrate-version": version})

        problem(answer, 400, code, "Appstrate-Version")
        assert "ratelimit" not in answer.headers  # judged before anything is counted

    def test_the_current_api_version_is_accepted(self, live: Live) -> None:
        with caller(live) as client:
            assert start(client, GIVES, headers={"appstrate-version": "2026-03-21"}).status_code == 200

    def test_an_end_user_header_that_is_no_end_users_id_is_400(self, live: Live) -> None:
        with caller(live) as client:
            answer = start(client, GIVES, headers={"appstrate-user": "user_1"})

        problem(answer, 400, "invalid_end_user_id", "Appstrate-User")

    def test_an_unknown_end_user_is_403(self, live: Live) -> None:
        with caller(live) as client:
            answer = start(client, GIVES, headers={"appstrate-user": "eu_missing"})

        problem(answer, 403, "invalid_end_user", "Appstrate-User")

    def test_an_end_user_header_without_a_key_is_400(self, live: Live) -> None:
        with live.client(live.token()) as person:
            answer = start(person, GIVES, headers={"appstrate-user": "eu_x"})

        problem(answer, 400, "header_not_allowed", "Appstrate-User")


class TestIdempotency:
    def keyed(self, client: Any, key: str, body: Any = None, package: str = GIVES) -> Any:
        return start(client, package, body, headers={"idempotency-key": key})

    def test_the_same_key_and_body_is_answered_again_and_runs_once(self, live: Live) -> None:
        with caller(live) as client:
            first, second = (self.keyed(client, "same-1", {"value": 1}) for _ in range(2))

        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        assert second.json() == first.json()
        assert second.headers["request-id"] != first.headers["request-id"]

    def test_a_replay_uses_up_a_request_of_the_limit(self, live: Live) -> None:
        with caller(live) as client:
            answers = [self.keyed(client, "counted-1", {"value": 1}) for _ in range(2)]

        assert [a.headers["ratelimit"].split(", ")[1] for a in answers] == ["remaining=19", "remaining=18"]

    def test_the_same_key_with_another_body_is_422(self, live: Live) -> None:
        with caller(live) as client:
            self.keyed(client, "other-body", {"value": 1})
            body = problem(self.keyed(client, "other-body", {"value": 2}), 422, "idempotency_conflict")

        assert body["title"] == "Idempotency Conflict"
        assert body["detail"] == (
            "This Idempotency-Key was already used with a different request body. "
            "Use a new key for different requests."
        )

    def test_the_path_is_no_part_of_the_key(self, live: Live) -> None:
        with caller(live) as client:
            first = self.keyed(client, "other-path", {"value": 1})
            second = self.keyed(client, "other-path", {"value": 1}, "@no/body")

        assert second.json() == first.json()

    def test_another_key_of_the_organisation_shares_the_namespace(self, live: Live) -> None:
        with caller(live) as one, caller(live) as two:
            first, second = self.keyed(one, "shared"), self.keyed(two, "shared")

        assert second.headers["idempotent-replayed"] == "true"
        assert second.json() == first.json()

    def test_refusals_are_kept_even_when_their_cause_is_gone(self, live: Live) -> None:
        with caller(live) as client:
            first = self.keyed(client, "refused", {}, "@appstrate/later")
            client.post("/api/v1/agents/manifests", json={"name": "@appstrate/later", "instructions": "x"})
            again = self.keyed(client, "refused", {}, "@appstrate/later")

        problem(first, 404, "agent_not_found")
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == "application/problem+json"
        assert again.json() == first.json()
        assert again.json()["requestId"] != again.headers["request-id"]

    def test_a_key_of_255_characters_is_accepted_and_256_refused_and_not_kept(self, live: Live) -> None:
        with caller(live) as client:
            assert self.keyed(client, "k" * 255).status_code == 200
            for _ in range(2):
                answer = self.keyed(client, "k" * 256)
                problem(answer, 400, "invalid_idempotency_key", "Idempotency-Key")
                assert "idempotent-replayed" not in answer.headers

    def test_raced_requests_make_one_run(self, live: Live) -> None:
        key = live.key_of("admin")

        def send(_: int) -> tuple[int, str]:
            with live.client(key) as client:
                answer = self.keyed(client, "raced", {"value": 3})
                return answer.status_code, answer.json().get("runId", answer.json().get("code"))

        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(send, range(8)))

        assert {what for status, what in answers if status == 409} <= {"idempotency_in_progress"}
        assert len({what for status, what in answers if status == 200}) == 1
        assert {status for status, _ in answers} <= {200, 409}

    def test_a_multipart_retry_with_a_new_boundary_conflicts(self, live: Live) -> None:
        def send(client: Any, boundary: str) -> Any:
            body = f'--{boundary}\r\ncontent-disposition: form-data; name="input"\r\n\r\n{{}}\r\n--{boundary}--\r\n'
            kind = f"multipart/form-data; boundary={boundary}"
            headers = {"content-type": kind, "idempotency-key": "boundaries"}
            return client.post(f"/api/agents/{GIVES}/run", content=body.encode(), headers=headers)

        with caller(live) as client:
            assert send(client, "one").status_code == 200
            assert send(client, "one").headers["idempotent-replayed"] == "true"
            problem(send(client, "two"), 422, "idempotency_conflict")


class TestRateLimit:
    def test_the_21st_run_in_a_minute_is_429_and_takes_no_key(self, live: Live) -> None:
        with caller(live) as client:
            package = publish(client, NUMBER)
            for _ in range(20):
                start(client, package)
            answer = start(client, package, headers={"idempotency-key": "limited"})
            body = problem(answer, 429, "rate_limited")
            elsewhere = start(client, GIVES, headers={"idempotency-key": "limited"})

        assert body["detail"] == "Too many requests. Please try again shortly."
        assert 1 <= body["retryAfter"] <= 60
        assert answer.headers["retry-after"] == str(body["retryAfter"])
        assert answer.headers["ratelimit"].startswith("limit=20, remaining=0, reset=")
        assert elsewhere.status_code == 200  # another agent counts apart, and the key was free

    def test_another_key_counts_apart(self, live: Live) -> None:
        with caller(live) as one, caller(live) as two:
            package = publish(one, NUMBER)
            for _ in range(21):
                last = start(one, package)
            assert last.status_code == 429
            assert start(two, package).status_code == 400


def test_a_run_goes_through_to_its_result(live: Live) -> None:
    with caller(live) as client:
        run = ended(client, run_id(client, GIVES, {"value": {"a": 1}}))

    assert run["status"] == "success"
    assert run["result"] == {"output": {"a": 1}}
