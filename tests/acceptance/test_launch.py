"""The launcher with real processes: supervision, the local model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest

from runyard_common.settings import Settings
from runyard_launch.localmodel import engine
from runyard_launch.supervisor import models, parts, process
from tests.lateness import Lateness
from tests.launching import ROOT, Launched, alive
from tests.ports import free_port
from tests.waiting import wait_until

Supervise = Callable[..., Launched]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Starts a supervisor over the given children; stops what a test leaves."""
    started: list[Launched] = []

    def start(*children: dict[str, Any], options: Sequence[str] = ()) -> Launched:
        program = [sys.executable, "-m", "tests.fakes.supervised"]
        command = [*program, str(tmp_path), json.dumps(children), *options]
        started.append(Launched(command, tmp_path / "supervisor.log"))
        return started[-1]

    yield start
    for supervisor in started:
        supervisor.kill()


UP = "UP\n"
SLEEPS = "exec sleep 60"


class TestSupervisor:
    def test_a_stage_is_up_when_all_its_children_are_ready(
        self, supervise: Supervise, tmp_path: Path
    ) -> None:
        supervisor = supervise(
            {"name": "plain", "command": SLEEPS},
            {"name": "slow", "command": "sleep 0.3; touch serving; exec sleep 60", "wait_for": "serving"},
            {"name": "migrate", "command": "echo done", "once": True},
        )
        output = supervisor.until(UP)
        assert "slow" in output
        assert "migrate" in output
        assert (tmp_path / "serving").exists()

    def test_what_waits_for_the_api_starts_once_it_answers(
        self, supervise: Supervise, tmp_path: Path
    ) -> None:
        api = "sleep 0.5; touch serving; exec sleep 60"
        worker = f"[ -e serving ] && touch after; {SLEEPS}"
        supervise(
            {"name": "api", "command": api, "wait_for": "serving", "holds_up": 60},
            {"name": "worker", "command": worker, "stage": 1},
        ).until(UP)
        wait_until((tmp_path / "after").exists)

    @pytest.mark.parametrize(
        ("api", "holds_up"), [(SLEEPS, 0.3), ("echo x >> lives; exit 3", 60)], ids=["silent", "dead"]
    )
    def test_it_starts_as_well_when_the_api_does_not_answer(
        self, supervise: Supervise, tmp_path: Path, api: str, holds_up: float
    ) -> None:
        supervisor = supervise(
            {"name": "api", "command": api, "wait_for": "serving", "holds_up": holds_up},
            {"name": "worker", "command": f"touch works; {SLEEPS}", "stage": 1},
        )
        wait_until((tmp_path / "works").exists)
        assert UP not in supervisor.output, "the addresses are shown once the api answers"

    def test_a_child_that_ends_is_started_again(self, supervise: Supervise, tmp_path: Path) -> None:
        lives = tmp_path / "lives"
        command = f"echo x >> lives; [ $(wc -l < lives) -gt 1 ] && {SLEEPS}; exit 3"
        supervisor = supervise({"name": "api", "command": command})
        supervisor.until(UP)
        wait_until(lambda: lives.exists() and lives.read_text().count("x") == 2)
        code, output = supervisor.end(signal.SIGTERM)
        assert code == 0
        assert "api ended (exit code 3); starting it again in 0.5 s" in output

    def test_a_child_whose_settings_cannot_work_ends_everything_with_its_sentence(
        self, supervise: Supervise
    ) -> None:
        command = "echo 'RUNYARD_MODEL: no such provider.'; exit 2"
        code, output = supervise({"name": "api", "command": command}, {"name": "x", "command": SLEEPS}).end()
        assert code == 2
        assert output.strip().splitlines()[-1] == "api ended: RUNYARD_MODEL: no such provider."

    def test_it_is_not_started_again_and_what_runs_beside_it_is_stopped_in_order(
        self, supervise: Supervise, tmp_path: Path
    ) -> None:
        trap = "trap 'echo {} >> stopped; exit 0' TERM; touch {}.up; while :; do sleep 0.05; done"
        refused = "while [ ! -e broker.up ] || [ ! -e worker.up ]; do sleep 0.05; done; echo x >> lives; "
        code, output = supervise(
            {"name": "broker", "command": trap.format("broker", "broker"), "order": 2},
            {"name": "worker", "command": trap.format("worker", "worker"), "order": 1, "runs_agents": True},
            {"name": "api", "command": refused + "echo 'runyard api: RUNYARD_ALLOWED_ORIGINS: no.'; exit 2"},
        ).end()
        assert code == 2
        assert output.strip().splitlines()[-1] == "api ended: runyard api: RUNYARD_ALLOWED_ORIGINS: no."
        assert "starting it again" not in output
        assert (tmp_path / "lives").read_text() == "x\n"
        assert (tmp_path / "stopped").read_text().split() == ["worker", "broker"]

    def test_a_child_that_dies_again_and_again_shows_its_last_lines_with_growing_pauses(
        self, supervise: Supervise
    ) -> None:
        code, output = supervise({"name": "api", "command": "echo the reason; exit 3"}).end()
        assert code == 1
        lines = [line.strip() for line in output.splitlines()]
        pauses = [line.split(" again in ")[1].split(" s")[0] for line in lines if "starting it again" in line]
        assert pauses == ["0.5", "1", "2", "4"]
        assert lines.count("| the reason") == 3, "before the second, third and fourth pause"
        assert lines[-1] == "api ended again and again, 5 times now: exit code 3"
        assert lines[-2] == "the reason"

    def test_what_an_earlier_life_logged_does_not_explain_the_end_of_this_one(
        self, supervise: Supervise, tmp_path: Path
    ) -> None:
        (tmp_path / "worker.log").write_text("runyard worker: RUNYARD_AGENTS: of yesterday.\n")
        command = f"echo x >> lives; [ $(wc -l < lives) -gt 1 ] && {SLEEPS}; exit 2"
        supervisor = supervise({"name": "worker", "command": command, "runs_agents": True})
        supervisor.until(UP)
        wait_until(lambda: (tmp_path / "lives").exists() and (tmp_path / "lives").read_text().count("x") == 2)
        code, output = supervisor.end(signal.SIGTERM)
        assert code == 0
        assert "of yesterday" not in output

    def test_a_source_without_agents_is_shown_and_is_no_failure(self, supervise: Supervise) -> None:
        command = (
            "echo 'runyard worker: RUNYARD_AGENTS: a source holds no agent'; echo '  ./agents: the top level'; "
            f"echo 'another line'; {SLEEPS}"
        )
        supervisor = supervise({"name": "worker", "command": command, "runs_agents": True})
        supervisor.until("./agents: the top level")
        code, output = supervisor.end(signal.SIGTERM)
        assert code == 0
        assert output.count("./agents: the top level") == 1
        assert "another line" not in output

    def test_migrations_that_fail_show_the_end_of_their_log(self, supervise: Supervise) -> None:
        code, output = supervise({"name": "migrate", "command": "echo reason; exit 1", "once": True}).end()
        assert code == 1
        assert "reason" in output
        assert "migrate failed: exit code 1" in output

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_stops_the_worker_before_the_rest(
        self, supervise: Supervise, tmp_path: Path, number: signal.Signals
    ) -> None:
        # the worker drains for a while; the broker must still be there then
        trap = "trap '{}echo {} >> stopped; exit 0' TERM; touch {}.up; while :; do sleep 0.05; done"
        children = [
            {"name": "broker", "command": trap.format("", "broker", "broker"), "order": 2},
            {"name": "worker", "command": trap.format("sleep 0.5; ", "worker", "worker"), "order": 1},
        ]
        supervisor = supervise(*[{**c, "wait_for": f"{c['name']}.up"} for c in children])
        supervisor.until(UP)
        code, _ = supervisor.end(number)
        assert code == 0
        assert (tmp_path / "stopped").read_text().split() == ["worker", "broker"]

    def test_a_child_that_ignores_the_stop_is_killed_after_its_grace(self, supervise: Supervise) -> None:
        deaf = {
            "name": "deaf",
            "command": "trap '' TERM; touch up; while :; do sleep 0.1; done",
            "grace": 0.3,
        }
        supervisor = supervise({**deaf, "wait_for": "up"})
        supervisor.until(UP)
        code, output = supervisor.end(signal.SIGTERM)
        assert code == 0
        assert "deaf did not stop in time and was killed" in output

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux shows what a process does")
    def test_ctrl_c_waits_longer_for_a_child_that_is_at_work_and_not_for_one_that_hangs(
        self, supervise: Supervise, tmp_path: Path
    ) -> None:
        leaves = (
            "import pathlib, signal, time; asked = []\n"
            "signal.signal(signal.SIGTERM, lambda *_: asked.append(1)); pathlib.Path('busy.up').touch()\n"
            "while not asked: time.sleep(0.05)\n"
            "until = time.monotonic() + 1.4\n"  # longer than one that hangs has
            "while time.monotonic() < until: pass\n"
            "pathlib.Path('left').touch()"
        )
        deaf = "trap '' TERM; touch deaf.up; exec sleep 60"
        supervisor = supervise(
            {
                "name": "busy",
                "command": f'exec {sys.executable} -c "{leaves}"',
                "wait_for": "busy.up",
                "order": 1,
            },
            {"name": "deaf", "command": deaf, "wait_for": "deaf.up", "order": 2},
            options=["quick"],
        )
        supervisor.until(UP)
        code, output = supervisor.end(signal.SIGINT)
        assert code == 0
        assert (tmp_path / "left").exists()
        assert "busy did not stop" not in output
        assert "deaf did not stop in time and was killed" in output

    def test_a_second_signal_kills_at_once(self, supervise: Supervise) -> None:
        deaf = {"name": "deaf", "command": "trap '' TERM; touch up; while :; do sleep 0.1; done", "grace": 60}
        supervisor = supervise({**deaf, "wait_for": "up"})
        supervisor.until(UP)
        supervisor.process.send_signal(signal.SIGINT)
        supervisor.until("Stopping")
        code, _ = supervisor.end(signal.SIGINT)
        assert code == 130

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
    def test_children_die_with_a_killed_supervisor(self, supervise: Supervise, tmp_path: Path) -> None:
        supervisor = supervise({"name": "a", "command": f"echo $$ > pid; {SLEEPS}", "wait_for": "pid"})
        supervisor.until(UP)
        pid = int(wait_until((tmp_path / "pid").read_text))
        assert alive(pid)
        supervisor.kill()
        wait_until(lambda: not alive(pid))


@contextmanager
def running(log: Path, *arguments: str) -> Iterator[str]:
    """A local model server; its base URL."""
    port = free_port()
    child = process.spawn(
        [sys.executable, "-m", "runyard_launch.localmodel", "--port", str(port), *arguments],
        log=log,
        cwd=ROOT,
    )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        wait_until(lambda: child.poll() is not None or parts.answers(f"{url}/models"), seconds=120, every=0.1)
        yield url
    finally:
        process.end(child, grace=10)


ORDER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "reports it", "parameters": ORDER},
}
ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server with the real model."""
    log = tmp_path_factory.mktemp("model") / "model.log"
    with running(log) as url, httpx2.Client(base_url=url, timeout=120) as client:
        yield client


def hang_up(model: httpx2.Client, body: dict[str, Any]) -> None:
    """Ask, and leave: after the first words of a stream, else after half a second."""
    if body["stream"]:
        with model.sse("/chat/completions", method="POST", json=body) as source:
            next(iter(source))
    else:
        with pytest.raises(httpx2.ReadTimeout):
            model.post("/chat/completions", json=body, timeout=httpx2.Timeout(50, read=0.5))


@pytest.mark.local_model
@pytest.mark.timeout(240)
class TestLocalModel:
    def test_the_real_model_serves(self, model: httpx2.Client) -> None:
        (served,) = model.get("/models").json()["data"]
        assert served["id"] == engine.NAME, "weights missing: run `make test`, which installs them"

    def test_it_streams_an_answer_token_by_token(self, model: httpx2.Client) -> None:
        body = {
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 12,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        with model.sse("/chat/completions", method="POST", json=body) as source:
            chunks = [json.loads(event.data) for event in source if event.data != "[DONE]"]
        texts = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
        spoken = [text for text in texts if text]
        assert len(spoken) > 3
        assert chunks[-2]["choices"][0]["finish_reason"] in {"stop", "length"}
        assert 0 < chunks[-1]["usage"]["completion_tokens"] <= 12

    def test_it_calls_the_offered_tool_with_valid_arguments_once(self, model: httpx2.Client) -> None:
        body = {"messages": ASKED, "tools": [WEATHER], "tool_choice": "required"}
        choice = model.post("/chat/completions", json=body).json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
        jsonschema.validate(json.loads(call["function"]["arguments"]), ORDER)

        result = {"role": "tool", "tool_call_id": call["id"], "content": "20 degrees and sunny"}
        messages = [*ASKED, choice["message"], result]
        after = model.post("/chat/completions", json={"messages": messages, "tools": [WEATHER]}).json()
        assert after["choices"][0]["message"]["content"]
        assert "tool_calls" not in after["choices"][0]["message"]

    def test_it_answers_in_a_given_schema(self, model: httpx2.Client) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER}}
        answer = model.post("/chat/completions", json={"messages": ASKED, "response_format": wanted}).json()
        jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), ORDER)

    def test_a_prompt_beyond_its_context_is_refused(self, model: httpx2.Client) -> None:
        messages = [{"role": "user", "content": "word " * 9000}]
        answer = model.post("/chat/completions", json={"messages": messages})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_client_that_hangs_up_stops_the_model(self, model: httpx2.Client, stream: bool) -> None:
        story = [{"role": "user", "content": "Write a very long story."}]
        body = {"messages": story, "max_tokens": 4000, "stream": stream, "temperature": 2}
        # One more than it takes at once: were those still busy, the last would wait for minutes.
        for _ in range(engine.AT_ONCE + 1):
            hang_up(model, body)
        with Lateness() as late:
            started = time.monotonic()
            model.post("/chat/completions", json={"messages": story, "max_tokens": 1}).raise_for_status()
            took = time.monotonic() - started
        assert took < 10 + late.seconds


def test_without_weights_the_stand_in_serves_under_its_own_name(tmp_path: Path) -> None:
    log = tmp_path / "model.log"
    with running(log, "--scripted") as url:
        (served,) = httpx2.get(f"{url}/models").json()["data"]
        answer = httpx2.post(f"{url}/chat/completions", json={"messages": ASKED}).json()
        chosen = models.choose(Settings(model_base_url=url), {})
    assert served["id"] == chosen.name == "local/scripted"
    assert "no model is installed" in answer["choices"][0]["message"]["content"]


class TestCommand:
    @pytest.mark.parametrize(
        ("name", "value"),
        [("RUNYARD_PORT", "http"), ("RUNYARD_ALLOWED_ORIGINS", "null"), ("RUNYARD_AGENTS", "/nowhere")],
    )
    def test_a_start_that_cannot_work_is_one_sentence_and_no_traceback(
        self, home: Path, name: str, value: str
    ) -> None:
        env = {**os.environ, "RUNYARD_HOME": str(home), name: value}
        command = [sys.executable, "-m", "runyard_launch.cli", "up"]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert done.stderr.startswith(f"{name}: ")
        assert done.stderr.count("\n") == 1
        assert not list(home.iterdir()), "nothing was begun"
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
