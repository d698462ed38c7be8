"""A server that this machine cannot run."""

from __future__ import annotations


class ServerMissing(Exception):
    """The server cannot be had here; the message has what to install."""
