"""Every metric, as a table: `python -m runyard_common.metrics.table --write docs/observability.md`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from runyard_common.database.start_checks import Process
from runyard_common.metrics import families
from runyard_common.metrics.installation import BY, PLAIN, PREFIX
from runyard_common.runs.queries.queued import KEEPS

_HEAD = "| metric | type | of | labels | meaning |\n| --- | --- | --- | --- | --- |\n"
_INSTALLATION = "api, scheduler: of the installation"


def table() -> str:
    """The table in Markdown."""
    rows = [_row(family) for family in families.FAMILIES]
    rows += [f"| `{PREFIX}{name}` | gauge | {_INSTALLATION} | | {text} |" for name, text in PLAIN.items()]
    rows += [f"| `{PREFIX}{name}` | gauge | {_INSTALLATION} | `by` | {text} |" for name, text in BY.items()]
    return _HEAD + "\n".join(rows) + "\n"


def values() -> str:
    """The values that labels have, as a list in Markdown."""
    lines = [
        f"- `{_name(family)}` ({', '.join(f'`{label}`' for label in family.metric._labelnames)}): {family.values}."
        for family in families.FAMILIES
        if family.values
    ]
    return "\n".join([*lines, f"- `{PREFIX}queue_…` (`by`): worker, {', '.join(KEEPS)}."]) + "\n"


def _name(family: families.Family) -> str:
    (described,) = family.metric.describe()
    return described.name + ("_total" if described.type == "counter" else "")


def _row(family: families.Family) -> str:
    (described,) = family.metric.describe()
    of = "every process" if family.processes == families.EVERY else ", ".join(family.processes)
    labels = ", ".join(f"`{label}`" for label in family.metric._labelnames)
    return f"| `{_name(family)}` | {described.type} | {of} | {labels} | {described.documentation} |"


def names(process: Process) -> set[str]:
    """The names of a process's own metrics, as queries write them."""
    return {_name(family) for family in families.FAMILIES if process in family.processes}


def document() -> str:
    """What is between the marks in the document."""
    return f"\n{table()}\nThe values of the labels:\n\n{values()}\n"


def write(file: Path) -> None:
    """Put it between the marks."""
    marked = re.compile(r"(<!-- metrics: begin.*?-->\n).*(<!-- metrics: end -->)", re.DOTALL)
    file.write_text(marked.sub(lambda found: found[1] + document() + found[2], file.read_text()))


if __name__ == "__main__":
    write(Path(sys.argv[2]))
