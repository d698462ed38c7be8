"""Pydantic models whose fields have other names in JSON: one form for input, output, and what passes between agents."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from runyard import Context, agent, json_form, json_types
from runyard.testing import run


class Line(BaseModel):
    """A part of an order."""

    model_config = ConfigDict(alias_generator=to_camel)
    unit_price: int


class Order(BaseModel):
    """What two agents exchange."""

    model_config = ConfigDict(alias_generator=to_camel)
    order_id: int
    line_items: list[Line] = []


@agent("@aliases/doubles")
async def doubles(ctx: Context, args: Order) -> Order:
    """Gives its input back."""
    return args


@agent("@aliases/passes")
async def passes(ctx: Context, args: Order) -> dict[str, Any]:
    """Has another agent do it."""
    found = await ctx.run(doubles, args)
    kept = await ctx.step("keep", lambda: found, returns=Order)
    return {"kind": type(kept).__name__, "line": kept.line_items[0].unit_price}


ORDER = Order.model_validate({"orderId": 3, "lineItems": [{"unitPrice": 7}]})


def test_the_schemas_of_input_and_output_name_fields_alike() -> None:
    kind = json_types.required(Order)
    assert list(kind.input_schema()["properties"]) == ["orderId", "lineItems"]
    assert list(kind.output_schema()["properties"]) == ["orderId", "lineItems"]
    assert json_form.convert(ORDER) == {"orderId": 3, "lineItems": [{"unitPrice": 7}]}


def test_a_value_is_input_and_output_of_agents_and_comes_back_as_it_was() -> None:
    assert run(doubles, ORDER).output == {"orderId": 3, "lineItems": [{"unitPrice": 7}]}
    result = run(passes, ORDER)
    assert result.error is None
    assert result.output == {"kind": "Order", "line": 7}
