"""Tools become one schema-constrained choice, and the answer a call again."""

from __future__ import annotations

import json

import jsonschema
import pytest

from runyard_launch.localmodel.tool_calls import TEXT, Tool, choice_schema, flattened, offered, reply_of

LOOK_UP = Tool("look_up", "finds an order", {"type": "object", "properties": {"order": {"type": "string"}}})
REFUND = Tool("refund", "pays back", {"type": "object", "properties": {}})
ASKED = {"role": "user", "content": "Where is order 7?"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "function": {"name": "look_up", "arguments": '{"order": "7"}'}}],
}
FOUND = {"role": "tool", "tool_call_id": "c1", "content": "on its way"}


def test_a_tool_is_offered_once_a_turn() -> None:
    assert offered([LOOK_UP, REFUND], "auto", [ASKED]) == [LOOK_UP, REFUND]
    assert offered([LOOK_UP, REFUND], "auto", [ASKED, CALLED, FOUND]) == [REFUND]
    assert offered([LOOK_UP], "auto", [ASKED, CALLED, FOUND]) == []


def test_a_new_turn_offers_every_tool_again() -> None:
    assert offered([LOOK_UP], "auto", [ASKED, CALLED, FOUND, ASKED]) == [LOOK_UP]


def test_a_demanded_call_is_never_left_without_a_tool() -> None:
    assert offered([LOOK_UP], "required", [ASKED, CALLED, FOUND]) == [LOOK_UP]


def test_a_named_tool_is_the_only_one_and_none_is_none() -> None:
    named = {"type": "function", "function": {"name": "refund"}}
    assert offered([LOOK_UP, REFUND], named, [ASKED]) == [REFUND]
    assert offered([LOOK_UP, REFUND], "none", [ASKED]) == []


def test_the_choice_admits_each_call_and_the_reply_and_nothing_else() -> None:
    schema = choice_schema([LOOK_UP, REFUND], TEXT)
    for answer in ({"tool": "refund", "arguments": {}}, {"reply": "Soon."}):
        jsonschema.validate(answer, schema)
    for wrong in ({"tool": "unknown", "arguments": {}}, {"tool": "refund"}, {"reply": "x", "tool": "refund"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_a_demanded_call_admits_no_reply() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"reply": "Soon."}, choice_schema([REFUND], None))


def test_definitions_of_every_part_stay_reachable() -> None:
    parameters = {
        "type": "object",
        "properties": {"to": {"$ref": "#/$defs/Address"}},
        "$defs": {
            "Address": {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]}
        },
    }
    schema = choice_schema([Tool("send", "", parameters)], TEXT)
    jsonschema.validate({"tool": "send", "arguments": {"to": {"zip": "1"}}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tool": "send", "arguments": {"to": {}}}, schema)


def test_an_answer_becomes_a_call_or_text() -> None:
    call = reply_of('{"tool": "look_up", "arguments": {"order": "7"}}')
    assert (call.tool, json.loads(call.arguments), call.text) == ("look_up", {"order": "7"}, None)
    assert reply_of('{"reply": "Soon."}').text == "Soon."
    assert reply_of('{"reply": {"status": "late"}}').text == '{"status": "late"}'


def test_an_answer_cut_off_by_the_token_limit_stays_text() -> None:
    assert reply_of('{"tool": "look').text == '{"tool": "look'


def test_the_conversation_becomes_plain_text() -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    picture = {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "What is this?"}]}
    assert flattened([ASKED, CALLED, FOUND, system, picture]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is order 7?"},
        {"role": "assistant", "content": '{"tool": "look_up", "arguments": {"order": "7"}}'},
        {"role": "user", "content": "Result of the tool: on its way"},
        {"role": "user", "content": "[image_url left out]What is this?"},
    ]
