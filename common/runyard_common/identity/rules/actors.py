"""Actors: who changes something, and by which front. Pure.

key:<id>    an API key            user:<id>   a person who signed in
jwt:<sub>   the subject of a JWT  link:<id>   who holds an answer link
operator    the command line      system      the installation itself
anonymous   a caller who has not signed in
"""

from __future__ import annotations

#: The operator on the installation's own machine.
OPERATOR = "operator"
SYSTEM = "system"
ANONYMOUS = "anonymous"
#: What the actors begin with that came by a JWT.
JWT = "jwt:"


class Actor(str):
    """An actor's name that also knows the front it came by, for the audit log."""

    __slots__ = ("front",)

    front: str

    def __new__(cls, name: str, front: str) -> Actor:
        """`name` as above; `front` is the name of an API surface."""
        made = super().__new__(cls, name)
        made.front = front
        return made


def person_of(actor: str) -> str | None:
    """The id of the person an actor is, if it is one that signed in."""
    kind, _, id_ = actor.partition(":")
    return id_ if kind == "user" else None


def key_of(actor: str) -> str | None:
    """The id of the API key an actor is, if it is one."""
    kind, _, id_ = actor.partition(":")
    return id_ if kind == "key" else None
