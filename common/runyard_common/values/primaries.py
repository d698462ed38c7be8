"""The primaries that Sentinels have named to this process: servers of the installation that no setting names."""

from __future__ import annotations

_seen: dict[tuple[str, int], None] = {}


def note(host: str, port: int) -> None:
    """Remember one; replicas that were never primary are not known. Safe to call from any thread."""
    _seen[host, port] = None


def seen() -> list[tuple[str, int]]:
    """The host and port of each."""
    return list(_seen)
