"""Bodies that no run may come from: what they are, their content type, status, code and field."""

from __future__ import annotations

import json

# ruff: noqa: E501

DEEP = '{"args":' + "[" * 100 + "]" * 100 + "}"
DEEPER = "[" * 50_000 + "]" * 50_000
MALFORMED: list[tuple[str, str | None, bytes, int, str, str | None]] = [
    ("no JSON", "application/json", b"{", 400, "bad_json", None),
    ("an empty JSON body", "application/json", b"", 400, "bad_json", None),
    ("a bare null", "application/json", b"null", 400, "not_an_object", None),
    ("a list", "application/json", b'["query"]', 400, "not_an_object", None),
    ("NaN", "application/json", b'{"args": NaN}', 400, "bad_json", None),
    ("Infinity", "application/json", b'{"priority": Infinity}', 400, "bad_json", None),
    ("a number beyond doubles", "application/json", b'{"args": 1e999}', 400, "bad_json", None),
    ("a lone surrogate", "application/json", b'{"query": "\\ud800"}', 400, "bad_json", None),
    ("bytes that are no UTF-8", "application/json", b'{"query": "\xff"}', 400, "bad_json", None),
    ("a byte order mark", "application/json", b'\xef\xbb\xbf{"query": "a"}', 400, "bad_json", None),
    ("a trailing comma", "application/json", b'{"query": "a",}', 400, "bad_json", None),
    ("a raw NUL", "application/json", b'{"query": "a\x00b"}', 400, "bad_json", None),
    ("an escaped NUL", "application/json", b'{"query": "a\\u0000b"}', 400, "nul_character", None),
    ("a NUL deep in args", "application/json", b'{"args": {"n": ["\\\\\\u0000"]}}', 400, "nul_character", None),
    ("deep nesting", "application/json", DEEP.encode(), 400, "too_deep", None),
    ("very deep nesting", "application/json", DEEPER.encode(), 400, "too_deep", None),
    ("a field twice", "application/json", b'{"query": "a", "query": "b"}', 400, "duplicate_field", "query"),
    ("a field twice in args", "application/json", b'{"args": {"n": 1, "n": 2}}', 400, "duplicate_field", "n"),
    ("an unknown field", "application/json", b'{"qerry": "a"}', 400, "unknown_field", "qerry"),
    ("an unknown field inside", "application/json", b'{"query": "a", "callback": {"url": "http://a.example/", "header": {}}}', 400, "unknown_field", "callback.header"),
    ("a wrong type", "application/json", b'{"query": 5}', 400, "invalid_field", "query"),
    ("a number as text", "application/json", b'{"query": "a", "priority": "5"}', 400, "invalid_field", "priority"),
    ("nothing to do", "application/json", b"{}", 400, "missing_input", "query"),
    ("an empty query", "application/json", b'{"query": ""}', 400, "missing_input", "query"),
    ("args of the wrong type", "application/json", b'{"args": {"n": "1"}}', 400, "invalid_input", "args.n"),
    ("args without a required one", "application/json", b'{"args": {}}', 400, "invalid_input", "args.n"),
    ("args with one too many", "application/json", b'{"args": {"n": 1, "m": 2}}', 400, "invalid_input", "args"),
    ("args of a wrong format", "application/json", b'{"args": {"n": 1, "to": "x"}}', 400, "invalid_input", "args.to"),
    ("a broken output schema", "application/json", b'{"query": "a", "output_config": {"output_schema": {"type": "nonsense"}}}', 400, "invalid_schema", "output_config.output_schema"),
    ("a schema that refers outside", "application/json", b'{"query": "a", "final_output": {"name": "x", "schema": {"type": 5}}}', 400, "invalid_schema", "final_output.schema"),
    ("a workflow in a circle", "application/json", json.dumps({"query": "a", "workflows": [{"id": "w", "name": "w", "description": "", "steps": [{"id": "a", "name": "a", "description": "", "depends_on": ["b"]}, {"id": "b", "name": "b", "description": "", "depends_on": ["a"]}]}]}).encode(), 400, "invalid_field", "workflows[0]"),
    ("a deadline in the past", "application/json", b'{"query": "a", "deadline": "2001-01-01T00:00:00Z"}', 400, "invalid_deadline", "deadline"),
    ("a deadline that is no date", "application/json", b'{"query": "a", "deadline": "soon"}', 400, "invalid_deadline", "deadline"),
    ("a deadline out of the calendar", "application/json", b'{"query": "a", "deadline": "0001-01-01T00:00:00+23:59"}', 400, "invalid_deadline", "deadline"),
    ("a negative ttl", "application/json", b'{"query": "a", "ttl": -1}', 400, "invalid_field", "ttl"),
    ("a huge priority", "application/json", b'{"query": "a", "priority": 99999999999999999999}', 400, "invalid_field", "priority"),
    ("a callback to a file", "application/json", b'{"query": "a", "callback": {"url": "file:///etc/passwd"}}', 400, "url_refused", "callback.url"),
    ("an MCP server by name only", "application/json", b'{"query": "a", "mcp_servers": [{"serverName": "x"}]}', 400, "missing_field", "mcp_servers[0].serverUrl"),
    ("a header with a line break", "application/json", b'{"query": "a", "callback": {"url": "http://127.0.0.1:9999/", "headers": {"x": "a\\r\\nb: c"}}}', 400, "header_refused", "callback.headers.x"),
    ("an unknown mode", "application/json", b'{"query": "a", "mode": "turbo"}', 400, "invalid_field", "mode"),
    ("plain text", "text/plain", b"hello", 415, "unsupported_media_type", "Content-Type"),
    ("a form", "application/x-www-form-urlencoded", b"query=a", 415, "unsupported_media_type", "Content-Type"),
    ("a body of no type", None, b'{"query": "a"}', 415, "unsupported_media_type", "Content-Type"),
    ("JSON in another encoding", "application/json; charset=latin-1", b'{"query": "a"}', 415, "unsupported_encoding", "Content-Type"),
    ("too many bytes", "application/json", b'{"query": "' + b"a" * 200_000 + b'"}', 413, "payload_too_large", None),
    ("multipart without a boundary", "multipart/form-data", b"--x\r\n", 400, "bad_multipart", None),
    ("multipart that ends in the middle", "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="query"\r\n\r\nhel', 400, "missing_input", "query"),
    ("multipart of garbage", "multipart/form-data; boundary=x", b"garbage", 400, "bad_multipart", None),
]  # fmt: skip
