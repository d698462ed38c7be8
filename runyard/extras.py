"""What is installed only by an extra of the package, and the one sentence for what is not installed.

`pip install runyard` brings the clients and what agents are written with. docs/installation.md lists the extras.
The server and the command are the distribution `runyard-server`, which the extras `server` and `cli` bring.
"""

from __future__ import annotations

from importlib.util import find_spec


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False
    except ValueError:  # it is in sys.modules, and no file
        return True


def of_another(error: ModuleNotFoundError) -> bool:
    """Whether the module that is missing is of a distribution that is not installed, and no defect of Runyard's own."""
    package, _, module = (error.name or "").partition(".")
    return not package.startswith("runyard") or (package != "runyard" and not module)


def advice(what: str, extra: str) -> str:
    """The sentence for something that needs an extra which is not installed."""
    return f'{what} needs packages that are not installed: pip install "runyard[{extra}]".'


class MissingExtra(ModuleNotFoundError):
    """Something needs an extra that is not installed. `extra` is its name."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(advice(what, extra))
