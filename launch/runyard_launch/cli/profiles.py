"""Servers that commands talk to by name: `runyard login` keeps their URLs and API keys in a file of mode 600."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runyard_launch.problems import CommandFailed, Outcome

#: The name for the server of this machine's home, which no profile may have.
LOCAL = "local"
_OTHERS = 0o077


@dataclass(frozen=True)
class Profile:
    """A server by name."""

    name: str
    url: str
    key: str


def file() -> Path:
    """Where profiles are kept: in XDG_CONFIG_HOME, else ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "runyard" / "profiles.json"


def all_() -> list[Profile]:
    """Every profile, by name."""
    return [Profile(name, one["url"], one["key"]) for name, one in sorted(_read()["profiles"].items())]


def in_use() -> str:
    """The name of the profile in use, or `local`."""
    return str(_read().get("current") or LOCAL)


def current(name: str = "") -> Profile | None:
    """The profile of this name, else the one in use; None for this machine's home."""
    name = name or in_use()
    if name == LOCAL:
        return None
    found = next((profile for profile in all_() if profile.name == name), None)
    if found is None:
        raise CommandFailed(
            f"There is no profile {name!r}. `runyard profiles list` shows them; `runyard login` makes one.",
            "no_such_profile",
            Outcome.REFUSED,
        )
    return found


def save(profile: Profile, use: bool) -> None:
    """Add or replace a profile, and use it from now on if wanted."""
    kept = _read()
    entry = asdict(profile)
    kept["profiles"][entry.pop("name")] = entry
    if use:
        kept["current"] = profile.name
    _write(kept)


def use(name: str) -> None:
    """Use a profile, or `local`, from now on."""
    current(name)
    _write(_read() | {"current": name})


def remove(name: str) -> None:
    """Forget a profile and its key."""
    current(name)
    kept = _read()
    kept["profiles"].pop(name, None)
    if kept.get("current") == name:
        kept["current"] = LOCAL
    _write(kept)


def _read() -> dict[str, Any]:
    path = file()
    try:
        if path.stat().st_mode & _OTHERS and os.name == "posix":
            raise CommandFailed(
                f"{path} holds API keys and others can read it: chmod 600 {path}",
                "unsafe_profiles",
                Outcome.REFUSED,
            )
        kept: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(kept.get("profiles"), dict):
            raise ValueError(kept)
    except FileNotFoundError:
        return {"profiles": {}}
    except (ValueError, AttributeError, OSError) as error:
        raise CommandFailed(
            f"{path} cannot be read ({type(error).__name__}): correct it, or remove it and run `runyard login` again.",
            "unreadable_profiles",
            Outcome.REFUSED,
        ) from None
    return kept


def _write(kept: dict[str, Any]) -> None:
    """Replace the file in one step; it never is readable by others."""
    path = file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".profiles.")  # mode 600
    with os.fdopen(handle, "w") as stream:
        json.dump(kept, stream, indent=2)
    Path(name).replace(path)
