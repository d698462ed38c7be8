"""What a statement is, judged before the database sees it: one statement that reads, and the functions it calls.

This is the sign, not the wall: the session is read-only, and each database keeps the rest out in its own way. It gives
the refusals their words, and closes what read-only sessions leave open: files, programs, locks, settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from runyard_workers.agent.sql.lexer import Grammar, Token, tokens
from runyard_workers.agent.sql.results import QueryFailed

MOST_CHARACTERS: Final = 100_000
_READS: Final = {
    "sqlite": ("select", "with", "values", "explain"),
    "postgresql": ("select", "with", "values", "table", "show", "explain"),
    "mysql": ("select", "with", "values", "table", "show", "explain", "describe", "desc"),
}
_EXPLAINS: Final = ("explain", "describe", "desc")
#: Hints of MySQL that change the session for the length of a statement.
_SETTING_HINTS: Final = ("set_var", "max_execution_time", "resource_group")
_LOCKS: Final = {"update", "share", "no", "key"}
_CTE_FORMS: Final = (["as", "("], ["as", "materialized", "("], ["as", "not", "materialized", "("])


class StatementRefused(QueryFailed):
    """The statement does more than read, or may do so."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that reads. `first` is its first keyword; `calls` are the names before parentheses,
    `attributes` those behind a dot: PostgreSQL takes ``(x).f`` for ``f(x)`` where `x` has no column `f`."""

    first: str
    calls: tuple[str, ...]
    attributes: tuple[str, ...] = ()


def judged(sql: str, grammar: Grammar) -> Statement:
    """What the statement is. Raises `StatementRefused` with the reason, for one that does more than read."""
    if len(sql) > MOST_CHARACTERS:
        raise StatementRefused(f"a query has at most {MOST_CHARACTERS} characters")
    found = list(tokens(sql, grammar))
    _check_text(found, grammar)
    code = [token for token in found if token.kind not in ("space", "comment")]
    while code and code[-1].text == ";":
        code.pop()
    if any(token.text == ";" for token in code):
        raise StatementRefused("a query is one statement; leave out what follows the semicolon")
    first = next((token for token in code if token.text != "("), None)
    kinds = _READS[grammar.database]
    if first is None or first.kind != "word" or first.identifier not in kinds:
        shown = f"; it begins with {first.text[:30]}" if first is not None else ""
        raise StatementRefused(f"a query reads: it begins with {', '.join(kinds).upper()}{shown}")
    _check_words(code, first.identifier, grammar)
    attributes = _attributes(code) if grammar.database == "postgresql" else ()
    return Statement(first.identifier, tuple(dict.fromkeys(_calls(code))), tuple(dict.fromkeys(attributes)))


def _check_text(found: Sequence[Token], grammar: Grammar) -> None:
    for token, following in zip(found, [*found[1:], None], strict=False):
        if token.kind == "unclosed":
            raise StatementRefused("a quote or comment of the query has no end")
        if "\x00" in token.text and token.kind == "other":
            raise StatementRefused("NUL characters are refused in a query")
        if grammar.database == "mysql" and token.kind == "comment":
            _check_comment(token.text.lower())
        if grammar.database == "postgresql" and token.text in ("u", "U") and following == ("other", "&"):
            raise StatementRefused('write names and strings plainly, not in the escaped form U&"…"')


def _check_comment(text: str) -> None:
    if text.startswith(("/*!", "/*m!")):
        raise StatementRefused(
            "comments that MySQL executes (/*! … */) are refused; write the statement plainly"
        )
    if text.startswith("/*+") and any(hint in text for hint in _SETTING_HINTS):
        raise StatementRefused("hints that change settings are refused")


def _check_words(code: Sequence[Token], first: str, grammar: Grammar) -> None:
    if grammar.database == "sqlite":  # its authoriser sees the statement itself
        return
    words = [token.identifier if token.kind == "word" else "" for token in code]
    if first in _EXPLAINS and ("analyze" in words or "analyse" in words):
        raise StatementRefused("EXPLAIN ANALYZE runs the statement; use EXPLAIN")
    for index, word in enumerate(words):
        after = words[index + 1 : index + 3]
        if word == "into":
            raise StatementRefused("INTO writes a file, a table or a variable; a query only reads")
        if (word == "for" and after and after[0] in _LOCKS) or (word == "lock" and after[:1] == ["in"]):
            raise StatementRefused(
                "a query takes no locks; leave out FOR UPDATE, FOR SHARE and LOCK IN SHARE MODE"
            )
        if word == "next" and after == ["value", "for"]:
            raise StatementRefused("NEXT VALUE FOR moves a sequence; a query only reads")
        if word in ("nextval", "setval") and index and code[index - 1].text == ".":
            raise StatementRefused(f"{word.upper()} moves a sequence; a query only reads")


def _calls(code: Sequence[Token]) -> list[str]:
    """Names that may be called. A name given to a subquery with its columns is none: ``t(a, b) AS (…)``."""
    closing = _closing(code)
    names = []
    for index, token in enumerate(code[:-1]):
        if token.kind not in ("word", "name") or code[index + 1].text != "(":
            continue
        before = code[index - 1] if index else None
        if before is not None and (before.text == ")" or before.identifier_is("as")):
            continue
        end = closing.get(index + 1)
        if end is not None and _names_query(code[end + 1 : end + 5]):
            continue
        names.append(token.identifier)
    return names


def _attributes(code: Sequence[Token]) -> Iterator[str]:
    """Names behind a dot: columns, parts of qualified names, and functions in PostgreSQL's other notation."""
    for before, token in pairwise(code):
        if before.text == "." and token.kind in ("word", "name"):
            yield token.identifier


def _names_query(after: Sequence[Token]) -> bool:
    """Whether ``AS [[NOT] MATERIALIZED] (`` follows. An alias may be called so, but no parenthesis follows it."""
    words = [token.text.lower() for token in after]
    return any(words[: len(form)] == form for form in _CTE_FORMS)


def _closing(code: Sequence[Token]) -> dict[int, int]:
    """Which parenthesis closes which."""
    open_, pairs = [], {}
    for index, token in enumerate(code):
        if token.text == "(":
            open_.append(index)
        elif token.text == ")" and open_:
            pairs[open_.pop()] = index
    return pairs
