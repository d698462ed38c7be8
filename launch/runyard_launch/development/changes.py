"""What has changed in a project: the files that make its agents, and when their content differs.

The watcher of the file system is a wake-up. What counts is a comparison of the files with what they were, so that a
save without a change, an editor's temporary file or a lost notification makes no difference.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MANIFESTS: Final = (".yaml", ".yml", ".json")
#: Folders in which no file of a project's agents is.
_NOT_SEARCHED: Final = frozenset(
    {"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"}
)
#: Files that pytest collects, and what editors leave beside a file while they save it.
_NOT_CODE: Final = re.compile(r"^(\.|#|test_)|_test\.py$|^conftest\.py$|~$")
#: So many folders are watched at most; what changes in others is found within `_LOOK_EVERY`.
_MOST_FOLDERS: Final = 2_000
#: Milliseconds between looks where no change is reported, and without a further change until one counts.
_LOOK_EVERY: Final = 1_000
_QUIET: Final = 50


@dataclass(frozen=True)
class Project:
    """The files of an author's agents: code of the folder that the command runs in and of the sources, and manifests
    that are a source."""

    folder: Path
    sources: tuple[str, ...]

    def folders(self) -> list[Path]:
        """Where files of it are, or may come."""
        found: dict[Path, None] = {}
        for root in (self.folder, *(place for place in self._places() if not _within(place, self.folder))):
            for at, names, _ in os.walk(root):
                names[:] = [name for name in names if not _is_left_out(Path(at, name))]
                found[Path(at)] = None
                if len(found) >= _MOST_FOLDERS:
                    return list(found)
        return list(found)

    def files(self, folders: Sequence[Path]) -> Iterator[Path]:
        """Its files in these folders."""
        manifests = {place for source in self.sources if (place := Path(source).resolve()).is_dir()}
        named = {Path(source).resolve() for source in self.sources}
        for folder in folders:
            try:
                entries = list(os.scandir(folder))
            except OSError:
                continue  # it was removed meanwhile
            for entry in entries:
                path = Path(entry.path)
                is_code = path.suffix == ".py" and not _NOT_CODE.search(entry.name)
                is_manifest = path.suffix in _MANIFESTS and not entry.name.startswith(".")
                if path in named or is_code or (is_manifest and folder in manifests):
                    yield path

    def _places(self) -> Iterator[Path]:
        """The folders of the sources."""
        for source in self.sources:
            path = Path(source).resolve()
            if path.is_dir():
                yield path
            elif path.is_file():
                yield path.parent
            elif (place := _module_folder(source)) is not None:
                yield place


def _module_folder(name: str) -> Path | None:
    """The folder of a module's package, without importing anything; None for one that is beside the command."""
    try:
        found = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return None
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0]).resolve() if places else None


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _is_left_out(folder: Path) -> bool:
    name = folder.name
    return name.startswith(".") or name in _NOT_SEARCHED or (folder / "pyvenv.cfg").exists()


Files = dict[Path, tuple[int, int, str]]  # by path: time of change, size, digest


def look(project: Project, folders: Sequence[Path], before: Files) -> Files:
    """The files as they are now; only those whose time or size differs are read."""
    found: Files = {}
    for path in project.files(folders):
        try:
            state = path.stat()
            known = before.get(path)
            if known is not None and known[:2] == (state.st_mtime_ns, state.st_size):
                found[path] = known
                continue
            digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        except OSError:
            continue  # removed meanwhile, or not readable
        found[path] = (state.st_mtime_ns, state.st_size, digest)
    return found


def changed(before: Files, now: Files) -> list[Path]:
    """The files that came, went, or have other content."""
    digests = [{path: one[2] for path, one in files.items()} for files in (before, now)]
    return sorted(path for path in before.keys() | now.keys() if digests[0].get(path) != digests[1].get(path))


class Watcher:
    """Calls `on_change` in a thread with the files of a project that have changed, once for several saves."""

    def __init__(self, project: Project, on_change: Callable[[list[Path]], None]) -> None:
        self._project = project
        self._on_change = on_change
        self._ended = threading.Event()
        self._folders = project.folders()
        self._files = look(project, self._folders, {})

    def start(self) -> None:
        """Begin; what has changed since this object was made counts."""
        threading.Thread(target=self._run, name="watcher", daemon=True).start()

    def end(self) -> None:
        """End within a second."""
        self._ended.set()

    def _run(self) -> None:
        from watchfiles import watch

        while not self._ended.is_set():
            watched = [folder for folder in self._folders if folder.is_dir()]
            try:
                for _ in watch(
                    *watched, watch_filter=None, step=_QUIET, stop_event=self._ended, rust_timeout=_LOOK_EVERY,
                    yield_on_timeout=True, raise_interrupt=False, recursive=False, ignore_permission_denied=True,
                ):  # fmt: skip
                    self._compare()
                    if self._folders != watched:
                        break  # another folder: watch it, too
            except OSError:  # a folder went meanwhile, or the system watches no more of them
                self._ended.wait(_LOOK_EVERY / 1000)
                self._compare()

    def _compare(self) -> None:
        self._folders = self._project.folders()
        now = look(self._project, self._folders, self._files)
        found = changed(self._files, now)
        self._files = now
        if found:
            self._on_change(found)
