"""Writes runyard/client.py, the client for programs that wait, from runyard/async_client.py, word by word.

`make fmt` runs it; `--check` (in `make check`) exits with 1 where the written client is not of its source.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "runyard"
_SOURCE, _WRITTEN = _FOLDER / "async_client.py", _FOLDER / "client.py"
#: Replaced in this order, whole words alone.
_WORDS = {
    r"The same client for coroutines: `async with AsyncClient\(api_key=…\) as client: await client.run\(…\)`\.": (
        'The client for programs that wait: `with Client(api_key=…) as client: client.run("echo", {"n": 1})`.'
    ),
    r", from coroutines\.": ".",
    r"from __future__ import annotations\n": (
        "# Written by tools/sync_client.py from async_client.py: change that, then `make fmt`.\n"
        "from __future__ import annotations\n"
    ),
    r"import asyncio\n": "import time\n",
    r"\basyncio\.sleep\b": "time.sleep",
    r"\b(?:async|await) ": "",
    r"\bAsync(Client|Iterator)\b": r"\1",
    r"\bAsyncBaseTransport\b": "BaseTransport",
    r"\b__a(enter|exit)__\b": r"__\1__",
    r"\ba(close|read)\(\)": r"\1()",
}


def written(source: str) -> str:
    """The client that waits."""
    for pattern, word in _WORDS.items():
        source, count = re.subn(pattern, word, source)
        if not count:
            raise SystemExit(f"{_SOURCE.name} has no {pattern!r} any more: correct tools/sync_client.py.")
    return source


def main() -> None:
    """Write the client, or check it."""
    text = written(_SOURCE.read_text())
    if "--check" not in sys.argv:
        _WRITTEN.write_text(text)
    elif _WRITTEN.read_text() != text:
        sys.exit("runyard/client.py is not of its source: run `make fmt`.")


if __name__ == "__main__":
    main()
