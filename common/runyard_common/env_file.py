"""The RUNYARD_* variables of the `.env` in the current folder, which is a project's own file for other programs, too.

What else is in it counts for nothing: other names, lines that are no assignments, bytes that are no UTF-8.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runyard_common.values.errors import ConfigurationError

_OURS: Final = re.compile(r"\s*(?:export\s+)?(RUNYARD_\w*)", re.IGNORECASE)
_PREFIX: Final = "RUNYARD_"
_REPLACED: Final = "\ufffd"


def variables(file: Path = Path(".env")) -> Mapping[str, str | None]:
    """Values by name, as they are written; empty without such a file. Raises `ConfigurationError`."""
    try:
        if not file.is_file() or _PREFIX.encode() not in (data := file.read_bytes()).upper():
            return {}
    except OSError as error:
        raise ConfigurationError(f".env cannot be read ({error}): make it a file of this user.") from None
    from dotenv.main import resolve_variables
    from dotenv.parser import parse_stream

    # Not `dotenv_values`, which logs a warning for each line of others that it does not understand.
    lines = list(parse_stream(io.StringIO(data.decode(errors="replace"))))
    for line in lines:
        found = _OURS.match(line.original.string)
        if found and (line.error or _REPLACED in (line.value or "")):
            raise ConfigurationError(
                f".env, line {line.original.line}: {found[1]} cannot be read. Write {found[1]}=value, in UTF-8.",
                field=found[1].upper(),
            )
    given = ((line.key, line.value) for line in lines if line.key is not None)
    resolved = resolve_variables(given, override=True)
    return {name: value for name, value in resolved.items() if name.upper().startswith(_PREFIX)}
