"""Which parts a system has under which settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runyard_common.settings import Settings
from runyard_launch.supervisor.home import Home
from runyard_launch.supervisor.models import Choice, choose
from runyard_launch.supervisor.parts import Plan, child_environment

LOCAL = Choice("local", serve_local=True, remark="")


def settings(**given: Any) -> Settings:
    return Settings(**given)


def names(given: Settings, home: Path, workers: int = 1, apis: int = 1) -> list[list[str]]:
    plan = Plan(given, Home(home), {}, choose(given, {}), workers, apis)
    return [[spec.name for spec in stage] for stage in plan.stages()]


def test_an_empty_configuration_brings_everything(home: Path) -> None:
    assert names(settings(), home) == [["migrate", "valkey"], ["api", "model"], ["scheduler", "worker"]]


def test_a_broker_and_a_model_elsewhere_are_not_started_here(home: Path) -> None:
    elsewhere = settings(broker_url="redis://broker.example/0", model="openai:some")
    assert names(elsewhere, home)[0] == ["migrate"]


def test_workers_are_numbered(home: Path) -> None:
    assert names(settings(), home, workers=3)[2][1:] == ["worker", "worker-2", "worker-3"]


def test_apis_are_numbered_and_share_their_port(home: Path) -> None:
    assert names(settings(), home, apis=2)[1] == ["api", "api-2", "model"]
    serving = Plan(settings(), Home(home), {}, LOCAL, apis=2).stages()[1]
    assert [spec.env["RUNYARD_SHARE_PORT"] for spec in serving[:2] if spec.env] == ["true", "true"]


def test_workers_stop_before_what_they_need(home: Path) -> None:
    plan = Plan(settings(), Home(home), {}, LOCAL)
    order = {spec.name: spec.stop_order for stage in plan.stages() for spec in stage}
    assert order["worker"] < order["api"] == order["scheduler"] < order["valkey"] == order["model"]


def test_the_demo_adds_the_examples_to_the_agents_without_losing_any(home: Path) -> None:
    env = child_environment(settings(agents="my.agents"), Home(home), {}, LOCAL, demo=True)
    first, second = env["RUNYARD_AGENTS"].split(",")
    assert Path(first).name == "examples"
    assert second == "my.agents"


def test_children_get_the_home_and_port_that_were_decided(home: Path) -> None:
    env = child_environment(settings(port=8123), Home(home), {"RUNYARD_PORT": "0"}, LOCAL, demo=False)
    assert (env["RUNYARD_HOME"], env["RUNYARD_PORT"]) == (str(home), "8123")
    assert env["RUNYARD_MODEL"] == "local"


def test_the_api_is_reached_on_loopback_when_it_listens_everywhere(home: Path) -> None:
    for host, url in {"0.0.0.0": "http://127.0.0.1:8000", "::": "http://[::1]:8000"}.items():
        assert Plan(settings(host=host), Home(home), {}, LOCAL).local_url == url
