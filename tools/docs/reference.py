"""The reference of the HTTP API, as Markdown, from docs/openapi.json: a page for each of its tags."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]
_METHODS = ("get", "post", "put", "patch", "delete", "head")


def write(document: Path, folder: Path) -> list[str]:
    """Write the pages into `folder`; their names without the ending, in the order of the document."""
    api = json.loads(document.read_text())
    pages: dict[str, list[str]] = defaultdict(list)
    for path, operations in api["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                tag = (operation.get("tags") or ["other"])[0]
                pages[tag].append("\n".join(_operation(api, method, path, operation)))
    about = {tag["name"]: tag.get("description", "") for tag in api.get("tags", ())}
    folder.mkdir(parents=True)
    names = []
    for tag, parts in pages.items():
        name = re.sub(r"[^a-z0-9]+", "-", tag.lower()).strip("-")
        text = f"# {tag}\n\n{about.get(tag, '')}\n\n" + "\n\n".join(parts) + "\n"
        (folder / f"{name}.md").write_text(text)
        names.append(name)
    return names


def _operation(api: Json, method: str, path: str, operation: Json) -> Iterator[str]:
    yield f"## {operation.get('summary') or operation['operationId']}\n"
    yield f"`{method.upper()} {path}`\n"
    if description := operation.get("description"):
        yield f"{description}\n"
    parameters = [_resolved(api, one) for one in operation.get("parameters", ())]
    if parameters:
        yield "| parameter | in | type | |\n| --- | --- | --- | --- |"
        for one in parameters:
            needed = "required. " if one.get("required") else ""
            yield _row(
                f"`{one['name']}`",
                one["in"],
                _type(api, one.get("schema", {})),
                needed + one.get("description", ""),
            )
        yield ""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield from _fields(api, f"Body, `{kind}`", content.get("schema", {}))
        if "example" in content:
            yield f"```json\n{json.dumps(content['example'], indent=2, ensure_ascii=False)}\n```\n"
    yield "| answer | | type |\n| --- | --- | --- |"
    for code, given in operation["responses"].items():
        answer = _resolved(api, given)
        kinds = [
            f"{_type(api, content.get('schema', {}))} (`{kind}`)"
            for kind, content in answer.get("content", {}).items()
        ]
        yield _row(code, answer.get("description", ""), ", ".join(kinds))
    yield ""


def _fields(api: Json, title: str, schema: Json) -> Iterator[str]:
    found = _resolved(api, schema)
    if not found.get("properties"):
        yield f"{title}: {_type(api, schema)}\n"
        return
    yield f"{title}:\n\n| field | type | |\n| --- | --- | --- |"
    required = found.get("required", ())
    for name, one in found["properties"].items():
        needed = "required. " if name in required else ""
        yield _row(f"`{name}`", _type(api, one), needed + one.get("description", ""))
    yield ""


def _row(*cells: str) -> str:
    return (
        "| "
        + " | ".join(" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in cells)
        + " |"
    )


def _resolved(api: Json, schema: Json) -> Json:
    while "$ref" in schema:
        found: Any = api
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _type(api: Json, schema: Json) -> str:
    """A type in words: ``text``, ``list of RunView``, ``integer or null``."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value, ensure_ascii=False)}`" for value in schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(_type(api, one) for one in schema[choice])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(api, schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
