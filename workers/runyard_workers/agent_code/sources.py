"""Sources of agents: the modules, files and folders that RUNYARD_AGENTS names, imported as their project imports them.

The project is the folder the process was started in. It comes first on the path of Python, as `python -m` has it, so
that its own `common`, `api` or `tests` are found; Runyard has names of its own. A file or folder that belongs to a
package is imported by the name it has there, so relative imports work and no module exists twice.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import yaml

import runyard
import runyard_workers
from runyard.authoring import every_version, restore
from runyard_common.agents.rules.manifests import Manifest, parse
from runyard_common.schemas import checks
from runyard_common.start_checks import missing_agents
from runyard_common.values.errors import ConfigurationError, RunyardError
from runyard_workers.agent_code.exceptions import abnormal, summary

_DOCUMENTS: Final = (".yaml", ".yml", ".json")
_OURS: Final = [
    Path(str(file)).resolve().parent
    for file in (runyard_workers.__file__, importlib.__file__, runyard.__file__)
]


class Broken(ConfigurationError):
    """A source is there and cannot be used."""


#: Reads a part of a source; the manifests in it, each with its file. Agents in code register themselves.
Part = Callable[[], list[tuple[Manifest, str]]]


def enter_project() -> None:
    """Put the folder this process was started in first on Python's path, once."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def parts(source: str) -> list[Part]:
    """What a source consists of. Reading a part raises `Broken`, or `ConfigurationError` where there is no source."""
    path = Path(source)
    if not source.strip():
        raise missing_agents(source)
    if not path.is_dir():
        part = _part(path)
        if part is None and not all(name.isidentifier() for name in source.split(".")):
            raise missing_agents(source)
        return [part or partial(_import_module, source, source)]
    files = sorted(f for f in path.iterdir() if f.suffix != ".py" or not f.name.startswith("_"))
    found = [part for part in map(_part, files) if part is not None]
    package = path / "__init__.py"
    return [partial(_import_file, package), *found] if package.is_file() else found


def _part(file: Path) -> Part | None:
    if file.suffix == ".py" and file.is_file():
        return partial(_import_file, file)
    if file.suffix in _DOCUMENTS and file.is_file():
        return lambda: [(manifest_of(file), str(file))]
    return None


def manifest_of(file: Path) -> Manifest:
    """The manifest in a YAML or JSON file. Raises `ConfigurationError` with its file, line and column."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return checked(parse(yaml.safe_load(text)))
    except OSError as error:
        raise Broken(f"{file}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Broken(f"{file}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x}).") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Broken(f"{file}{at}: {error.problem or error.context}.") from None
    except yaml.reader.ReaderError as error:
        raise Broken(f"{file}: a character that YAML does not allow ({error.character!r}).") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Broken(f"{file}: {summary(error)}.") from None
    except RunyardError as error:
        raise Broken(f"{file}: {error.message}") from None


def checked(manifest: Manifest) -> Manifest:
    """Refuse schemas that no value could be checked against: each run would fail."""
    for name, holder in (("input", manifest.input), ("output", manifest.output)):
        if holder is not None and holder.schema_ is not None:
            checks.check_schema(holder.schema_, field=f"{name}.schema")
    return manifest


def _import_file(file: Path) -> list[tuple[Manifest, str]]:
    root, name = _place(file.resolve())
    if root is not None:
        if str(root) not in sys.path:
            # The folder of a package is a project's; one of loose files hides nothing that is installed.
            sys.path.insert(0 if "." in name or file.name == "__init__.py" else len(sys.path), str(root))
        found = None
        if _is_free(root, name):
            with _named(str(file)):
                found = importlib.util.find_spec(name)  # runs the packages around it
        if found is not None and found.origin and Path(found.origin).resolve() == file.resolve():
            return _import_module(name, str(file))
    return _import_loose(file)


def _is_free(root: Path, name: str) -> bool:
    """Whether the first part of a name is not one of a module that Python has already, such as `queue` or `json`."""
    loaded = sys.modules.get(name.partition(".")[0])
    if loaded is None:
        return True
    places = [*getattr(loaded, "__path__", ()), str(Path(getattr(loaded, "__file__", None) or "/").parent)]
    return any(Path(place).is_relative_to(root) for place in places)


def _place(file: Path) -> tuple[Path | None, str]:
    """The folder from which a file is imported, and its name there; None for a file that has no name in its project.

    Its packages (folders with an ``__init__.py``) decide. A file outside packages is named from the folder this process
    was started in, as ``python -m`` would name it, or else from its own folder.
    """
    root = file.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    here = Path.cwd()
    if root == file.parent and here in file.parents:
        root = here
    place = file.parent if file.name == "__init__.py" else file.with_suffix("")
    names = place.relative_to(root).parts
    return (root, ".".join(names)) if names and all(name.isidentifier() for name in names) else (None, "")


def _import_loose(file: Path) -> list[tuple[Manifest, str]]:
    """A file whose name is in use, or is no name for a module: a module of its own."""
    name = f"runyard_agents_{file.stem}_{abs(hash(str(file.resolve())))}"
    if name in sys.modules:
        return []
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _named(str(file)):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return []


def _import_module(name: str, source: str) -> list[tuple[Manifest, str]]:
    with _named(source, name):
        importlib.import_module(name)
    return []


@contextmanager
def _named(source: str, module: str = "") -> Iterator[None]:
    """An import that fails, or exits, names its source, and leaves no agent of it behind."""
    before = every_version()
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        restore(before)
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if source == module and missing and f"{module}.".startswith(f"{missing}."):
            raise missing_agents(source) from None
        ordinary = error if isinstance(error, Exception) else abnormal(error)
        raise Broken(f"{source}{_line(error)}: {summary(ordinary)}") from error


def _line(error: BaseException) -> str:
    """Where in the author's code it broke."""
    if isinstance(error, SyntaxError):
        return ""  # its text has it
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen ")]
    inside = [f for f in frames if Path(f.filename).resolve().parent not in _OURS]
    return f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else ""
