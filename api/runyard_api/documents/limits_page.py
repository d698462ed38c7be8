"""docs/limits.md: its tables are made from what the code enforces and from the routes.

python -m runyard_api.documents.limits_page --write
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runyard_api.fronts import operations
from runyard_api.http.operations import Operation
from runyard_common.identity.rules.caps import CAPS
from runyard_common.values.bounds import BOUNDS, RUN_BOUNDS

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "limits.md"
_STREAM: Final = "text/event-stream"
_MARK: Final = "<!-- {}: made by `python -m runyard_api.documents.limits_page --write` -->\n"


def bounds_table() -> str:
    """Every bound on what a caller sends, and on what an organisation has."""
    rows = ["| what | at most | refused with | setting |", "| --- | ---: | --- | --- |"]
    rows += [_row(b.what, b.most, b.unit, b.status, b.code, b.setting) for b in BOUNDS.values()]
    for cap in CAPS.values():
        per = " of an organisation" if cap.of == "organisation" else ""
        what = cap.plural[0].upper() + cap.plural[1:] + per
        rows.append(_row(what, cap.default, "", 409, cap.code, cap.setting))
    return "\n".join(rows) + "\n"


def _row(what: str, most: int, unit: str, status: int, code: str, setting: str) -> str:
    shown = f"`RUNYARD_{setting.upper()}`" if setting else ""
    return f"| {what} | {most:,} {unit}".rstrip() + f" | {status} `{code}` | {shown} |"


def runs_table() -> str:
    """Every bound on what one run does and stores."""
    rows = ["| what | at most | the run fails with | setting |", "| --- | ---: | --- | --- |"]
    for b in RUN_BOUNDS:
        setting = f"`RUNYARD_{b.setting.upper()}`" if b.setting else ""
        rows.append(f"| {b.what} | {b.most:,} {b.unit} | `{b.code}` | {setting} |")
    return "\n".join(rows) + "\n"


def routes_table() -> str:
    """Every route, with which bounds hold for it."""
    rows = ["| route | body | answer | counts against the rate |", "| --- | --- | --- | --- |"]
    for operation in operations():
        rate = "no" if operation.permission is None else "yes"
        rate = "by address: no key" if operation.counted_by_address else rate
        path = re.sub(r":\w+}", "}", operation.paths[0])
        rows.append(f"| `{operation.method} {path}` | {_body(operation)} | {_answer(operation)} | {rate} |")
    return "\n".join(rows) + "\n"


def _body(operation: Operation) -> str:
    kinds = (["JSON"] if operation.body is not None else []) + (["multipart"] if operation.form else [])
    return ", ".join(kinds) or "none"


def _answer(operation: Operation) -> str:
    kinds = {answer.media_type for answer in operation.answers if answer.status == 200}
    found = ["stream"] if _STREAM in kinds else []
    if operation.query is not None and {"cursor", "offset", "after", "before"} & set(
        operation.query.model_fields
    ):
        found.append("pages")
    return ", ".join(found) or "one"


def _parts() -> Iterator[tuple[str, str]]:
    yield "bounds", bounds_table()
    yield "runs", runs_table()
    yield "routes", routes_table()


def page(text: str) -> str:
    """The page with its tables as they are now; the text around them stays."""
    for name, table in _parts():
        begin, end = _MARK.format(name), f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{table}\n{end}{tail}"
    return text


if __name__ == "__main__":
    if "--write" not in sys.argv:
        sys.exit("usage: python -m runyard_api.documents.limits_page --write")
    PAGE.write_text(page(PAGE.read_text()))
