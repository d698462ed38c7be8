"""Names and prose use the words that an engineer would search for: the metaphors of an earlier draft are refused.

A folder is added to `COVERED` once it is clean. A word that is the right term in one place is excepted with the reason.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.documents
ROOT = Path(__file__).parents[2]
KINDS = (".py", ".js", ".html", ".css", ".md")
PAGES = (
    "agents", "api", "architecture", "callbacks", "chaos", "client", "comparison", "lifecycle", "limits", "operations",
    "performance", "recipes", "schedules", "security", "sizing", "ten-minutes", "upgrading",
)  # fmt: skip
OTHERS = (
    "common/runyard_common", "api/runyard_api", "workers", "launch", "runyard", "runyard_pytest", "server", "scheduler",
    "tests", "tools", "examples", "docs/console.md", "docs/fronts", "README.md", "SECURITY.md", "CONTRIBUTING.md",
)  # fmt: skip
COVERED = [*(f"docs/{page}.md" for page in PAGES), *OTHERS]
#: Refused in names and in prose, and what to write instead.
EVERYWHERE = {
    "told tell tells telling teller said says": "send, report, log, return",
    "aftermath happening": "commit hooks, committed event",
    "nobody somebody whoever whatever anew afresh": "the noun itself, or a shorter sentence",
    "stands wish wishes": "is, request",
    "door doors house hall workshop": "page, package, fixture",
    "turnstile ears keeper mend mends spool": "lock, subscriber, owner, repair, buffer",
}
#: Refused in names only: prose uses them in their plain sense.
IN_NAMES = {
    "standing held promise bury happened": "status, queued, enqueue, mark_dead, events",
    "alone peace apart aside beside lasting fleeting": "try_lock, backoff, in_thread, concurrent, renewed, non_durable",
    "take taken takes say": "claim, reserve, read, post",
    "gate room rooms bell tie": "limit check, capacity, notifier",
    "bodies reading facts people": "request_body, batched_reads, task_snapshot, end_users",
    "talk speaker persona equipment": "model session, agent config, tool loader",
}
PHRASES = re.compile(r"\b(?:for good|what of|that which|fell silent)\b", re.IGNORECASE)
#: (part of the path, word): why it stays there.
EXCEPTED = {
    ("console/assets/vendor/", ""): "a library as it was published",
    ("0005_people_sign_in.py", "people"): "a migration that installations have on record",
    ("runyard_common/runs/", "held"): "`threads_held`, a column and a published field",
    ("usage/service.py", "said"): "a key of journal entries that are stored",
    ("native/ops.py", "held"): "threads_held is a published field",
    ("native/schemas.py", "held"): "held_by is a published field",
    ("agentbase/runs.py", "says"): "a published manifest: another text would be another version",
    ("agent/loop/session.py", "said"): "a key of journal entries that are stored",
    ("runyard/", "people"): "names of the published client: through_people, waits_for_people",
    ("launch/", "people"): "Run.waits_for_people of the published client",
    ("tests/integration/test_client.py", "people"): "names of the published client",
    ("formats/table.py", "tell"): "the position in a file, of the standard library",
    ("runyard_workers/engine.py", "held"): "workers.threads_held, a column",
    ("http/protocol.py", "reading"): "a method of uvicorn",
    ("tests/", "nobody"): "a Unix account",
    ("tests/", "held"): "a published field",
    ("tests/unit/test_words.py", ""): "the list itself",
    ("tests/axe/", ""): "a library of others",
    ("assets/vendor/", ""): "libraries of others",
}
#: The parts of a name: request, body of request_body; Request, Body of RequestBody; HTTP, Error of HTTPError.
PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def flat(table: dict[str, str]) -> dict[str, str]:
    return {word: instead for words, instead in table.items() for word in words.split()}


PROSE = flat(EVERYWHERE)
NAMES = PROSE | flat(IN_NAMES)


def prose(text: str, first: int) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), first):
        found = [word.lower() for word in (*PARTS.findall(line), *PHRASES.findall(line))]
        yield from ((number, word) for word in found if word in PROSE or " " in word)


def refused(file: Path) -> Iterator[tuple[int, str]]:
    """The refused words of a file, each with its line."""
    text = file.read_text()
    yield from ((0, word) for word in PARTS.findall(file.stem) if word in NAMES)
    if file.suffix != ".py":
        yield from prose(text, 1)
    elif PHRASES.search(text) or not NAMES.keys().isdisjoint(part.lower() for part in PARTS.findall(text)):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                parts = {part.lower() for part in PARTS.findall(token.string)}
                words = PROSE if token.string.startswith("test_") else NAMES  # a test's name is a sentence
                yield from ((token.start[0], word) for word in parts & words.keys())
            elif token.type == tokenize.COMMENT or "STRING" in tokenize.tok_name[token.type]:
                yield from prose(token.string, token.start[0])


@pytest.mark.parametrize("place", COVERED)
def test_the_words_are_plain(place: str) -> None:
    path = ROOT / place
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in KINDS]
    assert files, f"{place} is not there"
    assert [
        f"{file.relative_to(ROOT)}:{line}: {word!r}, write {NAMES.get(word, 'a shorter sentence')}"
        for file in sorted(files)
        for line, word in refused(file)
        if not any(
            part in str(file.relative_to(ROOT)) and excepted in (word, "") for part, excepted in EXCEPTED
        )
    ] == []
