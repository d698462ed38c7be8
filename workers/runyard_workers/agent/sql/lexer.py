"""SQL cut into tokens as the database itself cuts it, and the `?` placeholders among them. Linear in the text.

What is a string to us and code to the server would hide code from `statements`, so each grammar follows its server:
nested comments and continued strings of PostgreSQL, backslashes and `--` of MySQL as its `sql_mode` has them. A literal
question mark (an operator of jsonb) is written ``??``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, NamedTuple

Kind = Literal["space", "comment", "string", "name", "word", "marker", "literal", "unclosed", "other"]


class Token(NamedTuple):
    """A piece of a statement. `marker` is a parameter (``?``), `literal` an escaped question mark (``??``)."""

    kind: Kind
    text: str

    @property
    def identifier(self) -> str:
        """The identifier that a word or a quoted name means; words in lower case."""
        if self.kind == "word":
            return self.text.lower()
        quote = self.text[-1]
        return self.text[1:-1] if quote == "]" else self.text[1:-1].replace(quote * 2, quote)

    def identifier_is(self, word: str) -> bool:
        """Whether this is the bare word `word`."""
        return self.kind == "word" and self.text.lower() == word


@dataclass(frozen=True, slots=True)
class Grammar:
    """How one database reads text. `backslashes`: they escape in plain strings. `ansi_quotes`: ``"x"`` is a name."""

    database: Literal["sqlite", "postgresql", "mysql"]
    backslashes: bool = False
    ansi_quotes: bool = True

    @classmethod
    def of_mysql(cls, sql_mode: str) -> Grammar:
        """The grammar of a MySQL session in this `sql_mode`."""
        modes = set(sql_mode.upper().split(","))
        return cls("mysql", "NO_BACKSLASH_ESCAPES" not in modes, "ANSI_QUOTES" in modes)


SQLITE: Final = Grammar("sqlite")
POSTGRESQL: Final = Grammar("postgresql")
MYSQL: Final = Grammar("mysql", backslashes=True, ansi_quotes=False)

_ESCAPED: Final = r"(?:[^'\\]|\\.|'')*"
#: What may come between two parts of one string: a line break, with spaces and comments around it.
_BETWEEN: Final = r"(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*"
_LETTER: Final = r"A-Za-z_\x80-\U0010ffff"


def tokens(sql: str, grammar: Grammar) -> Iterator[Token]:
    """The tokens of `sql`, none of its characters left out. A quote or comment without its end is `unclosed`, and
    so is all that follows it."""
    pattern, position = _pattern(grammar), 0
    while position < len(sql):
        if grammar.database == "postgresql" and sql.startswith("/*", position):
            end = _nested_end(sql, position)
            yield Token("comment" if end else "unclosed", sql[position : end or len(sql)])
            position = end or len(sql)
            continue
        found = pattern.match(sql, position)
        assert found is not None  # the last alternative takes any character
        kind: Any = found.lastgroup
        end = len(sql) if kind == "unclosed" else found.end()
        yield Token(kind, sql[position:end])
        position = end


def _nested_end(sql: str, start: int) -> int:
    """Where a comment that may hold others ends; 0 if it does not."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", sql[start:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return start + mark.end()
    return 0


@cache
def _pattern(grammar: Grammar) -> re.Pattern[str]:
    plain = r"'(?:[^'\\]|\\.|'')*'" if grammar.backslashes else r"'(?:[^']|'')*'"
    double = r'"(?:[^"\\]|\\.|"")*"' if grammar.backslashes and not grammar.ansi_quotes else r'"(?:[^"]|"")*"'
    strings, letters, comments = [plain], _LETTER, [r"--[^\n]*", r"/\*.*?\*/"]
    names: list[str] = []
    (names if grammar.ansi_quotes else strings).append(double)
    if grammar.database == "postgresql":
        comments = [r"--[^\n\r]*"]
        strings = [
            rf"[eE]'{_ESCAPED}'(?:{_BETWEEN}'{_ESCAPED}')*",
            plain,
            rf"\$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*)?)\$.*?\$(?P=tag)\$",
        ]
    elif grammar.database == "mysql":
        names.append(r"`(?:[^`]|``)*`")
        letters += "$"
        comments = [r"\#[^\n]*", r"--(?=[\x00-\x20]|\Z)[^\n]*", r"/\*.*?\*/"]
    else:
        names += [r"`(?:[^`]|``)*`", r"\[[^\]]*\]"]
    opened = {"postgresql": rf"['\"]|\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$", "sqlite": r"['\"`\[]|/\*"}
    kinds = {
        "space": r"[ \t\n\r\f\v]+",
        "comment": "|".join(comments),
        "string": "|".join(strings),
        "name": "|".join(names),
        "word": rf"[{letters}][{_LETTER}0-9$]*",
        "literal": r"\?\?",
        "marker": r"\?",
        "unclosed": opened.get(grammar.database, r"['\"`]|/\*"),
        "other": r"\$?[0-9]+|.",
    }
    return re.compile("|".join(f"(?P<{kind}>{one})" for kind, one in kinds.items()), re.DOTALL)


def count_parameters(sql: str, *, mysql: bool = False) -> int:
    """How many parameters a query takes."""
    return sum(1 for token in tokens(sql, MYSQL if mysql else POSTGRESQL) if token.kind == "marker")


def for_driver(sql: str, grammar: Grammar = POSTGRESQL) -> str:
    """The query in the ``%s`` style of psycopg and PyMySQL."""
    written = {"marker": "%s", "literal": "?"}
    return "".join(written.get(token.kind) or token.text.replace("%", "%%") for token in tokens(sql, grammar))
