"""JSON pointers (RFC 6901): the names in one, and a name as a part of one."""

from __future__ import annotations


def parts(pointer: str) -> list[str]:
    """The names that a pointer goes through; its first slash may be missing."""
    return [unescaped(part) for part in pointer.removeprefix("/").split("/")]


def unescaped(part: str) -> str:
    """The name that a part of a pointer is for."""
    return part.replace("~1", "/").replace("~0", "~")


def escaped(name: object) -> str:
    """A name, or a number of an item, as a part of a pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")
