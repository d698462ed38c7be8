"""The OpenAPI document, as validators, linters and generators need it: the whole one, and that of each front."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from runyard_api.documents import openapi
from runyard_api.documents.openapi import TAGS
from runyard_api.documents.schemas import subschemas
from runyard_api.fronts import operations

pytestmark = pytest.mark.documents

FRONTS = ("", *openapi.names_of_fronts(operations()))


@cache
def document(front: str = "") -> dict[str, Any]:
    return openapi.document(operations(), front=front)


def each_operation() -> Iterator[dict[str, Any]]:
    for methods in document()["paths"].values():
        yield from methods.values()


def each_schema() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of the document, those of parameters and bodies too."""
    for name, schema in document()["components"]["schemas"].items():
        for inner in subschemas(schema):
            yield name, inner
    for operation in each_operation():
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        outer = [parameter["schema"] for parameter in operation["parameters"]]
        outer += [media["schema"] for one in contents for media in one.get("content", {}).values()]
        for schema in outer:
            for inner in subschemas(schema):
                yield operation["operationId"], inner


def each_example() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every place that takes an example: its name, its schema, and the example."""
    shared = document()["components"]["examples"]
    for operation in each_operation():
        name = operation["operationId"]
        for parameter in operation["parameters"]:
            yield f"{name} {parameter['name']}", parameter["schema"], parameter["example"]
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} {kind}", media["schema"], media["example"]
        for status, answer in operation["responses"].items():
            for kind, media in answer.get("content", {}).items():
                referred = media.get("examples", {}).get("refusal", {}).get("$ref", "").rpartition("/")[2]
                example = shared[referred]["value"] if referred else media["example"]
                yield f"{name} {status} {kind}", media["schema"], example


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front or "whole")
def test_it_is_valid_and_every_reference_resolves(front: str) -> None:
    errors = [str(error)[:500] for error in OpenAPIV31SpecValidator(document(front)).iter_errors()]
    assert errors == []


def test_the_fronts_share_the_operations_of_the_whole() -> None:
    parts = [path for front in FRONTS[1:] for path in document(front)["paths"]]
    assert sorted(parts) == sorted(document()["paths"])
    for front in FRONTS[1:]:
        names = [
            each["operationId"] for methods in document(front)["paths"].values() for each in methods.values()
        ]
        assert {name.partition(".")[0] for name in names} == {front}


def test_a_field_with_a_default_is_optional_with_every_generator() -> None:
    """openapi-typescript requires fields whose schema has a `default`, so components have none."""
    for name, schema in document()["components"]["schemas"].items():
        for inner in subschemas(schema):
            assert "default" not in inner, name
    hook = document()["components"]["schemas"]["WebhookBody"]
    assert hook["required"] == ["url"]
    assert hook["properties"]["max_parallel"]["description"].endswith("Default: 10.")


def test_a_default_keeps_its_own_constraint() -> None:
    for name, schema in each_schema():
        if "default" in schema:
            assert Draft202012Validator(schema).is_valid(schema["default"]), name


def test_arrays_have_items_and_types_are_single() -> None:
    for name, schema in each_schema():
        assert schema.get("type") != "array" or "items" in schema, name
        assert not isinstance(schema.get("type"), list), name


def test_enums_list_values_that_mean_something() -> None:
    """A generator names a member after its value: an empty text or a placeholder makes no name."""
    for name, schema in each_schema():
        if "type" in schema:
            assert all(each.strip(" <>") == each != "" for each in schema.get("enum", ())), name


def test_a_run_has_one_success_and_its_dry_run_a_path_of_its_own() -> None:
    paths, schemas = document()["paths"], document()["components"]["schemas"]
    responses = paths["/api/v1/agents/{agent}/run"]["post"]["responses"]
    assert [status for status in responses if status < "300"] == ["202"]
    assert schemas["Accepted"]["properties"]["task_id"]["type"] == "string"
    assert "task_id" in schemas["Accepted"]["required"]
    dry = paths["/api/v1/agents/{agent}/dry-run"]["post"]["responses"]["200"]
    assert dry["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/RunPreview"}


def test_every_tag_is_explained_and_every_explanation_is_of_a_tag() -> None:
    used = {tag["name"] for tag in document()["tags"]}
    assert used == set(TAGS).union(*(operation.front.described.tags for operation in operations()))
    assert all(tag["description"] for tag in document()["tags"])


def test_every_operation_has_a_description_and_names_which_credentials_it_takes() -> None:
    for operation in each_operation():
        assert operation["description"], operation["operationId"]
    assert document("nara")["security"] == [{"bearer": []}]


def test_every_example_fits_its_schema() -> None:
    components = document()["components"]
    seen = 0
    for name, schema, example in each_example():
        checked = Draft202012Validator({"components": components, **schema}, format_checker=FormatChecker())
        errors = [f"{error.json_path}: {error.message}" for error in checked.iter_errors(example)]
        assert errors == [], name
        seen += 1
    assert seen > 1000


def test_no_model_has_a_field_of_its_own_name() -> None:
    """openapi-python-client keeps both in one variable of that name."""
    for name, schema in document()["components"]["schemas"].items():
        own = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        assert own not in schema.get("properties", {}), name
