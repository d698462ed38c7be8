"""A provider of single sign-on as a process of its own (oidc-provider-mock, on Authlib), which insists on PKCE.

`python -m tests.fakes.oidc_provider` prints its port and serves until it is ended. Claims of a subject are set with
PUT /users/<subject>; a form with `sub`, posted to the authorization address, signs that subject in.
"""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Start = Callable[..., Any]


class DemandsPkce:
    """WSGI: notes the challenge that each code was asked for with, and refuses a verifier that is not its own."""

    def __init__(self, app: Callable[[dict[str, Any], Start], Iterable[bytes]]) -> None:
        self._app = app
        self._challenges: dict[str, str] = {}

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if environ["PATH_INFO"] == "/oauth2/token":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            form = parse_qs(body.decode())
            challenge = self._challenges.pop(form.get("code", [""])[0], None)
            if challenge is None or challenge != _challenge(form.get("code_verifier", [""])[0]):
                start("400 Bad Request", [("content-type", "application/json")])
                return [b'{"error": "invalid_grant", "error_description": "the verifier is not the code\'s"}']
        if environ["PATH_INFO"] == "/oauth2/authorize" and query.get("code_challenge_method") != ["S256"]:
            start("400 Bad Request", [("content-type", "text/plain")])
            return [b"PKCE with S256 is needed"]

        def noting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            location = {name.lower(): value for name, value in headers}.get("location", "")
            for code in parse_qs(urlsplit(location).query).get("code", []):
                self._challenges[code] = query["code_challenge"][0]
            return start(status, headers, *rest)

        return self._app(environ, noting)


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@contextmanager
def provider() -> Iterator[str]:
    """The issuer of a provider that runs until the end of the block."""
    command = [sys.executable, "-m", "tests.fakes.oidc_provider"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait(50)
        process.stdout.close()


def main() -> None:
    """Serve until ended."""
    import oidc_provider_mock
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DemandsPkce(oidc_provider_mock.app()), threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
