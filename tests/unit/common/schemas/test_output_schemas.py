"""Output contracts: a schema as object, as text, as a sample or in prose."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_common.schemas import checks
from runyard_common.schemas.outputs import (
    from_final_output,
    from_output_config,
    from_schema,
    is_json_schema,
    of_sample,
)
from runyard_common.values.errors import InvalidRequest

OBJECT = {"properties": {"total": {"type": "number"}}, "required": ["total"]}


@pytest.mark.parametrize("schema", [{"total": "number"}, '{"total": "number"}', OBJECT])
def test_every_form_binds_the_same_object(schema: Any) -> None:
    contract = from_output_config({"output_schema": schema})
    assert contract is not None
    assert contract.violations({"total": 1}) == []
    assert [v.field for v in contract.violations({"total": "x"})] == ["output.total"]
    assert [v.field for v in contract.violations({})] == ["output.total"]


def test_a_sample_with_a_field_called_type_is_no_schema() -> None:
    assert not is_json_schema({"type": "string", "amount": "number"})
    assert of_sample({"type": "string", "amount": "number"})["required"] == ["type", "amount"]
    assert is_json_schema({"type": "string", "enum": ["a"]})


def test_what_is_no_object_travels_in_one() -> None:
    schema = {"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}
    contract = from_schema(schema, field="f")
    assert contract.violations({"result": [1]}) == []
    assert contract.violations({"result": ["x"]})
    assert contract.unwrap({"result": [1]}) == [1]


def test_prose_asks_for_an_object_and_reaches_the_model() -> None:
    contract = from_output_config({"output_schema": "the sum in euros", "instructions": "Be exact."})
    assert contract is not None
    assert "the sum in euros" in contract.guidance
    assert "Be exact." in contract.guidance
    assert contract.violations({})


@pytest.mark.parametrize("empty", [None, {}, {"instructions": "Be brief."}, {"output_schema": ""}])
def test_without_a_schema_there_is_no_contract(empty: Any) -> None:
    assert from_output_config(empty) is None


def test_what_cannot_be_a_schema_is_refused_with_its_field() -> None:
    for config, field in (
        ({"output_schema": "{not json"}, "output_config.output_schema"),
        ("{", "output_config"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            from_output_config(config)
        assert (caught.value.code, caught.value.field) == ("invalid_schema", field)
    with pytest.raises(InvalidRequest):
        from_final_output({"name": "x"})


def test_a_final_outputs_name_becomes_one_every_provider_accepts() -> None:
    contract = from_final_output({"name": "my verdict!", "strict": True, "schema": {"type": "object"}})
    assert contract is not None
    assert (contract.name, contract.strict) == ("my_verdict", True)


def test_names_that_are_empty_or_numbers_lead_to_the_value_at_fault() -> None:
    part = {
        "type": "object",
        "additionalProperties": {"type": "object", "properties": {"at": {"type": "integer"}}},
    }
    schema = {"type": "object", "additionalProperties": part}
    assert checks.violations({"": {"0": {"at": "noon"}}}, schema)
    assert checks.violations({"1": {"": {"at": "noon"}}}, schema)
