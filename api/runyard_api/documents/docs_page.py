"""The documentation page: the OpenAPI document as one self-contained HTML page, without a script."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

from runyard_api.http.error_codes import CODES

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
#: Browsers open a closed <details> for an address that names something inside it: the ids stand there.
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884}body{font:15px/1.5 system-ui,sans-serif;margin:0}
header,main{max-width:62rem;margin:auto;padding:1rem}nav a{margin-right:1rem}h2{margin:2.5rem 0 .5rem}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.5rem .8rem}
summary{cursor:pointer;font-family:ui-monospace,monospace}summary b{display:inline-block;width:4.5rem}
summary span{font-family:system-ui,sans-serif;opacity:.75;margin-left:.6rem}
table{border-collapse:collapse;width:100%;margin:.4rem 0}td,th{border:1px solid var(--line);padding:.25rem .5rem;
text-align:left;vertical-align:top}code,pre{font:13px ui-monospace,monospace}pre{overflow:auto;padding:.6rem;
border:1px solid var(--line);border-radius:6px;max-height:28rem}
details>[id]{scroll-margin-top:3.5rem}summary,p,h2,td code,td a,td:nth-child(n+3){overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap}summary span{display:inline-block}
td:first-child,th:first-child{min-width:4rem}
@media(max-width:40rem){summary b{width:auto;margin-right:.5rem}summary span{margin-left:0;width:100%}
td,th{padding:.2rem .3rem}header,main{padding:.7rem}}
"""


def page(document: dict[str, Any]) -> str:
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append(_operation(path, method, operation))
    links = "".join(f"<a href='#{escape(tag)}'>{escape(tag)}</a>" for tag in [*by_tag, "errors", "schemas"])
    sections = "".join(
        f"<h2 id='{escape(tag)}'>{escape(tag)}</h2>{''.join(its)}" for tag, its in by_tag.items()
    )
    schemas = "".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items())
    about = escape(document["info"]["description"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Runyard API</title><style>{_STYLE}</style><header><h1>Runyard API</h1><p>{about} "
        "<a href='openapi.json'>openapi.json</a></p>"
        f"<nav>{links}</nav></header><main>{sections}{_errors()}<h2 id=schemas>schemas</h2>{schemas}</main></html>"
    )


def _errors() -> str:
    rows = "".join(
        f"<tr id='error-{code}'><td><code>{code}</code></td><td>{status}</td><td>{escape(meaning)}</td></tr>"
        for code, (status, meaning) in CODES.items()
    )
    return f"<h2 id=errors>errors</h2><table><tr><th>Code</th><th>Status</th><th></th></tr>{rows}</table>"


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    title = f"<b>{method.upper()}</b>{escape(path)}<span>{escape(operation['summary'])}</span>"
    parts = [f"<details><summary>{title}</summary><div id='{escape(operation['operationId'])}'>"]
    if "description" in operation:
        parts.append(f"<p>{escape(operation['description'])}</p>")
    if operation["parameters"]:
        rows = "".join(_parameter(parameter) for parameter in operation["parameters"])
        parts.append(f"<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>{rows}</table>")
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{escape(media_type)}</code> {_reference(content['schema'])}</p>")
    rows = "".join(_answer(status, answer) for status, answer in operation["responses"].items())
    parts.append(f"<table><tr><th>Status</th><th></th><th>Body</th></tr>{rows}</table></div></details>")
    return "".join(parts)


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    kind = str(schema.get("type", ""))
    default = f" = {json.dumps(schema['default'])}" if "default" in schema else ""
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
        f"<td>{escape(kind + default)}</td><td>{escape(parameter.get('description', ''))}</td></tr>"
    )


def _answer(status: str, answer: dict[str, Any]) -> str:
    contents = ", ".join(
        f"<code>{escape(media_type)}</code> {_reference(content['schema'])}"
        for media_type, content in answer.get("content", {}).items()
    )
    return f"<tr><td>{status}</td><td>{escape(answer['description'])}</td><td>{contents}</td></tr>"


def _reference(schema: dict[str, Any]) -> str:
    if "$ref" not in schema:
        return ""
    name = escape(schema["$ref"].rpartition("/")[2])
    return f"<a href='#schema-{name}'>{name}</a>"


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return f"<details><summary>{escape(name)}</summary><pre id='schema-{escape(name)}'>{text}</pre></details>"
