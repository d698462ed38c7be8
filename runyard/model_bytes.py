"""The JSON form of bytes in models of pydantic: one for each model, by which it is written and read.

A model has two settings, `ser_json_bytes` and `val_json_bytes`. With one of them set, or two that differ, it reads
other bytes than it wrote. Here one counts for both: the first of them that can have any bytes, base64 or hex.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import SchemaSerializer, SchemaValidator

#: The forms that can have any bytes.
_ANY_BYTES: Final = ("base64", "hex")
_KEYS: Final = ("ser_json_bytes", "val_json_bytes")
#: Parts of a schema with no type in them.
_NO_SCHEMA: Final = frozenset({"metadata", "default", "expected", "cls", "config", "custom_init"})


def form(config: Mapping[Any, Any] | None, otherwise: str = "utf8") -> str:
    """The form of bytes by a model's configuration; `otherwise` where that has none for any bytes."""
    found = ((config or {}).get(key) for key in _KEYS)
    return next((one for one in found if one in _ANY_BYTES), otherwise)


@functools.lru_cache(maxsize=1024)
def serializer(model: type) -> SchemaSerializer | None:
    """What writes a model in the forms that are read; None where the model does so by itself."""
    schema = getattr(model, "__pydantic_core_schema__", None)
    if not isinstance(schema, dict):  # a model whose schema is made later
        return None
    agreed = _agreed(schema, "utf8")
    return None if agreed is schema else SchemaSerializer(agreed, _use_prebuilt=False)


def validator(schema: Any) -> SchemaValidator | None:
    """What reads values of a schema in the forms that are written; None where the schema's own does. Outside of models
    bytes are base64."""
    agreed = _agreed(schema, "base64")
    if agreed is schema:
        return None
    return SchemaValidator(agreed, dict.fromkeys(_KEYS, "base64"), _use_prebuilt=False)  # type: ignore[arg-type]


def writer(
    model: type, text: Callable[[bytes], str], base64: Callable[[bytes], str]
) -> Callable[[bytes], str]:
    """What writes the bytes of a model whose fields are written one by one: of which model within it they are is not
    known there. It raises `ValueError` where that matters. `text` and `base64` write two of the forms."""
    form_of_all, *others = _forms(model)
    if others:
        return _refuse
    return {"utf8": text, "base64": base64, "hex": bytes.hex}[form_of_all]


def _refuse(value: bytes) -> str:
    raise ValueError(
        "one of its fields cannot be written (bytes that are no UTF-8, say), and the models in it have bytes in "
        "several forms: set ser_json_bytes and val_json_bytes of each to 'base64'"
    )


def _forms(model: type) -> set[str]:
    found = {form(getattr(model, "model_config", None))}
    waiting = [getattr(model, "__pydantic_core_schema__", None)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, dict):
            if part.get("type") == "model":
                found.add(form(part.get("config")))
            waiting += [one for name, one in part.items() if name not in _NO_SCHEMA]
    return found


def _agreed(part: Any, around: str, in_model: bool = False) -> Any:
    """A part of a core schema with one form a model; the part itself where it has that. `around` is the form of what it
    is in: dataclasses and typed dictionaries outside of models are written by Runyard, and all in `around`."""
    if isinstance(part, list | tuple):
        made = [_agreed(one, around, in_model) for one in part]
        return part if all(map(_is, made, part)) else type(part)(made)
    if not isinstance(part, dict):
        return part
    kind, config = part.get("type"), part.get("config")
    if kind == "model":
        around, in_model = form(config), True
    elif kind in ("dataclass", "typed-dict") and isinstance(config, dict) and in_model:
        around = form(config, around)
    found = {
        name: one if name in _NO_SCHEMA else _agreed(one, around, in_model) for name, one in part.items()
    }
    if kind in ("model", "dataclass", "typed-dict") and isinstance(config, dict):
        both = dict.fromkeys(_KEYS, around)
        if config | both != dict.fromkeys(_KEYS, "utf8") | config:
            found["config"] = config | both
    return part if all(found[name] is one for name, one in part.items()) else found


def _is(one: Any, other: Any) -> bool:
    return one is other
