"""Which model answers by default."""

from __future__ import annotations

import pytest

from runyard_common.settings import Settings
from runyard_launch.problems import SettingsProblem
from runyard_launch.supervisor.models import BY_KEY, choose


def settings(**given: str) -> Settings:
    return Settings(**given)


def test_a_named_model_is_taken_with_any_keys() -> None:
    choice = choose(settings(model="anthropic:claude"), {"OPENAI_API_KEY": "k"})
    assert (choice.name, choice.serve_local) == ("anthropic:claude", False)


@pytest.mark.parametrize(("key", "name"), BY_KEY.items())
def test_a_provider_key_chooses_that_provider_and_shows_it(key: str, name: str) -> None:
    choice = choose(settings(), {key: "k"})
    assert (choice.name, choice.serve_local) == (name, False)
    assert key in choice.remark


def test_an_empty_key_is_no_key() -> None:
    assert choose(settings(), {"OPENAI_API_KEY": ""}).name == "local"


def test_without_anything_the_local_model_serves_and_the_user_reads_how_to_change_it() -> None:
    choice = choose(settings(), {})
    assert (choice.name, choice.serve_local) == ("local", True)
    assert "RUNYARD_MODEL=" in choice.remark


@pytest.mark.parametrize(
    "given",
    [
        {"model": "local"},
        {"model": "openai:x", "model_flash": "local"},
        {"model": "x:y", "model_fallbacks": "a:b, local"},
    ],
)
def test_any_mention_of_local_brings_its_server(given: dict[str, str]) -> None:
    assert choose(settings(**given), {}).serve_local


def test_an_endpoint_that_lists_no_model_names_the_setting_to_make() -> None:
    with pytest.raises(SettingsProblem, match="RUNYARD_MODEL to the name"):
        choose(settings(model_base_url="http://127.0.0.1:1/v1"), {})
