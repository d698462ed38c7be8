"""What anybody who reaches the broker may put on a queue: nothing of it may end or stop a worker."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from runyard_common.broker.application import WAKE


def _envelope(body: Any = (), headers: Any = None, **properties: Any) -> bytes:
    """A message as kombu writes it on Redis."""
    given = {"id": "m", "task": WAKE, "lang": "py"} if headers is None else headers
    encoded = base64.b64encode(json.dumps([body, {}, {}]).encode()).decode()
    about = {
        "delivery_tag": "t", "delivery_info": {"exchange": "e", "routing_key": "r"}, "body_encoding": "base64",
        "correlation_id": "m", "delivery_mode": 2, "priority": 0,
    }  # fmt: skip
    return json.dumps(
        {
            "body": encoded, "content-encoding": "utf-8", "content-type": "application/json",
            "headers": given, "properties": about | properties,
        }
    ).encode()  # fmt: skip


_HEADERS: Final[dict[str, Any]] = {
    "headers that are a list": [],
    "headers that are text": "task",
    "a task that is a list": {"id": "m", "task": []},
    "a task that is an object": {"id": "m", "task": {}},
    "an unknown task": {"id": "m", "task": "os.system"},
    "no id": {"task": WAKE},
    "an id that is an object": {"id": {}, "task": WAKE},
    "an odd eta": {"id": "m", "task": WAKE, "eta": 5},
    "an eta that is no date": {"id": "m", "task": WAKE, "eta": "soon"},
    "a far eta": {"id": "m", "task": WAKE, "eta": "9999-12-31T23:59:59.999999"},
    "an odd expiry": {"id": "m", "task": WAKE, "expires": {"a": 1}},
    "an expiry that is no date": {"id": "m", "task": WAKE, "expires": "soon"},
    "an odd time limit": {"id": "m", "task": WAKE, "timelimit": "x"},
    "a time limit of objects": {"id": "m", "task": WAKE, "timelimit": [{}, []]},
    "odd retries": {"id": "m", "task": WAKE, "retries": "many"},
    "an odd origin": {"id": "m", "task": WAKE, "origin": {}, "group": [], "root_id": {}},
    "odd stamps": {"id": "m", "task": WAKE, "stamped_headers": 5, "stamps": "x"},
    "odd links": {"id": "m", "task": WAKE, "ignore_result": [], "replaced_task_nesting": "x"},
    "odd compression": {"id": "m", "task": WAKE, "compression": "application/x-none"},
}
#: Items of a Redis list that is a queue.
REDIS: Final[dict[str, bytes]] = {
    "nothing": b"",
    "no JSON": b"no JSON {",
    "bytes": b"\xff\xfe\x00\x80",
    "a number": b"5",
    "null": b"null",
    "text": b'"a"',
    "a list": b"[]",
    "an empty object": b"{}",
    "deep JSON": b"[" * 100_000,
    "properties that are a list": b'{"properties": []}',
    "no delivery tag": b'{"properties": {}}',
    "a tag that is an object": _envelope(delivery_tag={}),
    "a tag that is null": _envelope(delivery_tag=None),
    "delivery info that is text": _envelope(delivery_info="x"),
    "no delivery info": _envelope(delivery_info=None),
    "an unknown encoding of the body": _envelope(body_encoding="rot13"),
    "an encoding that is an object": _envelope(body_encoding={}),
    "a body that is no base64": b'{"body": "%", "properties": {"delivery_tag": "a", "body_encoding": "base64"}}',
    "a body that is a number": b'{"body": 5, "properties": {"delivery_tag": "b", "body_encoding": "base64"}}',
    "a priority that is text": _envelope(priority="x"),
    "an answer's address that is an object": _envelope(reply_to={}),
    **{name: _envelope(headers=headers) for name, headers in _HEADERS.items()},
    "odd arguments": _envelope(body={"a": [None]}),
    "many arguments": _envelope(body=[1, 2, 3]),
}
#: Messages of RabbitMQ: body, content type, encoding, headers.
RABBITMQ: Final[dict[str, tuple[bytes, str, str, Any]]] = {
    "nothing": (b"", "application/json", "utf-8", None),
    "no JSON": (b"no JSON {", "application/json", "utf-8", {"id": "m", "task": WAKE}),
    "no headers": (b"[[], {}, {}]", "application/json", "utf-8", None),
    "bytes": (b"\xff\xfe", "application/json", "utf-8", {"id": "m", "task": WAKE}),
    "pickle": (
        b"cos\nsystem\n(S'true'\ntR.",
        "application/x-python-serialize",
        "binary",
        {"id": "m", "task": WAKE},
    ),
    "an unknown type": (b"[]", "application/none", "utf-8", {"id": "m", "task": WAKE}),
    "an unknown encoding": (b"[[], {}, {}]", "application/json", "rot14", {"id": "m", "task": WAKE}),
    "a number": (b"5", "application/json", "utf-8", {"id": "m", "task": WAKE}),
    "an old message that is a list": (b"[]", "application/json", "utf-8", {}),
    "an old message that has nothing": (b"{}", "application/json", "utf-8", {}),
    "an old message with a task that is a list": (b'{"task": []}', "application/json", "utf-8", {}),
    **{
        name: (b"[[], {}, {}]", "application/json", "utf-8", headers)
        for name, headers in _HEADERS.items()
        if isinstance(headers, dict)
    },
}
