"""`python -m runyard_launch.localmodel [--fd N | --port N]`: serve the small model, or its scripted stand-in."""

from __future__ import annotations

import argparse
import socket
import sys

import uvicorn

from runyard_launch.localmodel.completion import Model
from runyard_launch.localmodel.engine import AT_ONCE, Engine, ModelMissing
from runyard_launch.localmodel.scripted import NAME, Scripted
from runyard_launch.localmodel.server import application


def main() -> None:
    """Load the model and serve until SIGTERM."""
    arguments = _arguments()
    listener = (
        socket.socket(fileno=arguments.fd)
        if arguments.fd is not None
        else socket.create_server(("127.0.0.1", arguments.port), backlog=512)
    )
    model = _model(arguments.scripted)
    print(f"{model.name} on port {listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(application(model, AT_ONCE), log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


def _model(scripted: bool) -> Model:
    if scripted:
        return Scripted()
    try:
        return Engine()
    except ModelMissing as missing:
        print(f"{NAME} takes the model's place: {missing}", file=sys.stderr, flush=True)
        return Scripted()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runyard_launch.localmodel")
    parser.add_argument("--fd", type=int, help="an inherited listening socket")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--scripted", action="store_true", help="the stand-in, even where there is a model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
