"""A server's base URL, read before anything is sent to it."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

_SCHEMES: Final = frozenset({"http", "https"})
_SHAPE: Final = "Give it as https://HOST, with :PORT and a path where it has them."


def base_url(text: str) -> str:
    """The base URL without a slash at its end; `host:port` alone means http.

    `ValueError` for what is no base URL: a sentence that repeats nothing of it, because it may hold a password.
    """
    url = text.strip()
    if not url:
        raise ValueError(f"The server's URL is empty. {_SHAPE}")
    if any(not character.isprintable() or character.isspace() or character == "\\" for character in url):
        raise ValueError(f"The server's URL has a space, a backslash or a control character in it. {_SHAPE}")
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"The server's URL has no valid host and port. {_SHAPE}") from None
    _check(parts, host, port)
    if "?" in url or "#" in url:
        raise ValueError(
            f"The server's URL has a query or a fragment: leave out what follows ? and #. {_SHAPE}"
        )
    return url.rstrip("/")


def _check(parts: SplitResult, host: str | None, port: int | None) -> None:
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"The server's URL begins with neither http:// nor https://. {_SHAPE}")
    if "@" in parts.netloc:
        raise ValueError(
            "The server's URL holds a user name or a password. Leave them out: Runyard asks for an API key, which "
            "`runyard login` reads from the terminal or from standard input."
        )
    if not host or parts.netloc.endswith(":") or port == 0:
        raise ValueError(f"The server's URL has no valid host and port. {_SHAPE}")
