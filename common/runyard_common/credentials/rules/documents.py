"""Credentials inside a JSON document: found by the names of their fields, taken out, put back, kept. Pure.

A document is stored with `SEALED` where its credentials were, and they are encrypted separately, by JSON pointer
(RFC 6901). In a document that is read and sent again, `SEALED` keeps the value it had.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

from runyard_common.credentials.rules import texts
from runyard_common.credentials.rules.texts import (
    is_placeholder,
    is_secret,
    is_secret_parameter,
    joined,
    masked,
)
from runyard_common.values import pointers
from runyard_common.values.errors import InvalidRequest
from runyard_common.webhooks.rules.receivers import origin_of

#: The placeholder of a credential.
SEALED: Final = texts.SEALED
#: Where numbers may be credentials; elsewhere `token: 3` counts something.
_NUMERIC: Final = ("password", "passwd", "passphrase", "pwd", "pass", "pw", "secret", "pin")
#: JSON Schemas and the like: what they name are fields, not values.
_SCHEMAS: Final = frozenset(
    {"schema", "output_schema", "input_schema", "outputSchema", "inputSchema", "properties"}
)
#: The prose and the names of a manifest.
_PLAIN: Final = frozenset(
    {"/name", "/version", "/description", "/instructions", "/demonstrations", "/review"}
)
_ADDRESSES: Final = ("serverUrl", "server_url", "url", "base_url", "baseUrl", "endpoint", "host")
#: Mappings whose names are parameters of a URL.
_PARAMETERS: Final = frozenset(
    {"params", "query", "queryparams", "queryparameters", "querystring", "parameters"}
)
#: A mapping that pairs a name with its value, as a header or a variable, has both under one of these.
_PAIR_NAMES: Final = ("name", "key", "header", "field", "variable")
_PAIR_VALUES: Final = frozenset({"value", "values", "val", "content"})
_CALLED: Final = ("serverName", "server_name", "name", "id")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def split(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document with `SEALED` for its credentials, and the credentials by JSON pointer."""
    found: dict[str, Any] = {}

    def change(at: str, leaf: Any, secret: bool) -> Any:
        shown = _masked(leaf, secret)
        if shown != leaf:
            found[at] = leaf
        return shown

    return _walk(document, change), found


def sealed_at(document: Mapping[str, Any]) -> list[str]:
    """JSON pointers to the places of credentials that `split` has replaced: a text elsewhere is what it is."""
    found: list[str] = []

    def note(at: str, leaf: Any, secret: bool) -> Any:
        if _is_sealed(leaf, secret):
            found.append(at)
        return leaf

    _walk(document, note)
    return found


def _is_sealed(leaf: Any, secret: bool) -> bool:
    return isinstance(leaf, str) and (leaf == SEALED if secret else is_placeholder(leaf))


def origins_only(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with no more of its URLs than whose they are: see `receivers.origin_of`."""
    return _walk(
        document,
        lambda _at, leaf, _secret: (
            origin_of(leaf) if isinstance(leaf, str) and _URL.fullmatch(leaf) else leaf
        ),
    )


def put_back(document: Mapping[str, Any], credentials: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its credentials again: the inverse of `split`."""
    whole: dict[str, Any] = deepcopy(dict(document))
    for pointer, value in credentials.items():
        *path, last = pointers.parts(pointer)
        parent: Any = whole
        for part in path:
            parent = parent[int(part)] if isinstance(parent, list) else parent[part]
        parent[int(last) if isinstance(parent, list) else last] = value
    return whole


def keep(document: Mapping[str, Any], before: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The document with each `SEALED` replaced by the value at its place in the first of `before` that has it.

    A credential is kept for the same place and address only: a caller who may not read it must not be able to have it
    sent elsewhere. Error: `InvalidRequest` credential_missing where none of `before` has it.
    """
    earlier = list(before)

    def change(at: str, leaf: Any, secret: bool) -> Any:
        if not _is_sealed(leaf, secret):
            return leaf
        parts = pointers.parts(at)
        for old in earlier:
            known = _counterpart(document, old, parts)
            if known is not None and known != leaf and _masked(known, secret) == leaf:
                return known
        raise InvalidRequest(
            f"{SEALED} keeps a stored credential, and none is stored. Send the credential.",
            code="credential_missing",
            field=_field(parts),
        )

    return _walk(document, change)


def _walk(document: Mapping[str, Any], change: Callable[[str, Any, bool], Any]) -> dict[str, Any]:
    def walk(value: Any, at: str, secret: bool) -> Any:
        if isinstance(value, Mapping):
            return {
                key: deepcopy(item)
                if key in _SCHEMAS or f"{at}/{key}" in _PLAIN
                else walk(item, f"{at}/{pointers.escaped(key)}", _within(str(key), secret, at, value))
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [walk(item, f"{at}/{index}", secret) for index, item in enumerate(value)]
        return change(at, value, secret and _may_be_secret(value, at))

    return dict(walk(document, "", False))


def _within(key: str, secret: bool, at: str, parent: Mapping[str, Any]) -> bool:
    """Whether what this field of `parent` has is a credential; `auth.type` names its kind."""
    if secret:
        return key != "type"
    if key in _PAIR_VALUES and any(is_secret(str(parent[name])) for name in _PAIR_NAMES if name in parent):
        return True
    if joined(at.rpartition("/")[2]) in _PARAMETERS:
        return is_secret_parameter(key)
    return is_secret(key)


def _may_be_secret(value: Any, at: str) -> bool:
    if isinstance(value, str):
        return value != ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return joined(at.rpartition("/")[2]).endswith(_NUMERIC)


def _masked(leaf: Any, secret: bool) -> Any:
    if secret:
        return SEALED
    return masked(leaf) if isinstance(leaf, str) else leaf


def _counterpart(new: Any, old: Any, path: list[str]) -> Any:
    """What `old` has where `path` leads in `new`: items of lists are found by their names, not places."""
    for part in path:
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            if _address(new) != _address(old) and part not in _ADDRESSES:
                return None
            new, old = new.get(part), old.get(part)
        elif isinstance(new, list | tuple) and isinstance(old, list | tuple):
            index = int(part)
            new, old = new[index], _partner(new[index], index, old)
        else:
            return None
    return old


def _partner(item: Any, index: int, others: list[Any] | tuple[Any, ...]) -> Any:
    name = _called(item)
    if name is not None:
        return next((other for other in others if _called(other) == name), None)
    return others[index] if index < len(others) and _called(others[index]) is None else None


def _called(item: Any) -> Any:
    return next((item[key] for key in _CALLED if item.get(key)), None) if isinstance(item, Mapping) else None


def _address(parent: Mapping[str, Any]) -> list[Any]:
    return [_masked(parent[key], False) for key in _ADDRESSES if parent.get(key)]


def _field(parts: list[str]) -> str:
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts).lstrip(".")
