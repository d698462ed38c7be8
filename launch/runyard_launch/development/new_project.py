"""`runyard init`: a project with an agent, its test, settings and an image, from the templates beside this module."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from runyard_launch.problems import CommandFailed, Outcome

#: Files of a project, and their templates. `{module}` is the name of the module with the agents.
FILES: Final = {
    "{module}.py": "agents.py.tmpl",
    "tests/test_agents.py": "test_agents.py.tmpl",
    "pyproject.toml": "pyproject.toml.tmpl",
    "README.md": "README.md.tmpl",
    ".env": "env.tmpl",
    ".env.example": "env.tmpl",
    ".gitignore": "gitignore.tmpl",
    "Dockerfile": "Dockerfile.tmpl",
    ".dockerignore": "dockerignore.tmpl",
}

#: Letters of Latin alphabets that are no other letter with an accent.
_LETTERS: Final = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "ae",
        "œ": "oe",
        "Œ": "oe",
        "ø": "o",
        "Ø": "o",
        "đ": "d",
        "Đ": "d",
        "ł": "l",
        "Ł": "l",
    }
)


@dataclass(frozen=True)
class NewProject:
    """A project to be made in `folder`: its distribution's name, and its module's."""

    folder: Path
    name: str
    module: str

    @classmethod
    def of(cls, folder: Path) -> NewProject:
        """One that is called as its folder, in plain letters. `CommandFailed` folder_unnamed where that has no name."""
        called = folder.resolve().name
        if not called.strip() and called:
            raise CommandFailed(
                "The name of the folder is only blanks. Name another.",
                "folder_unnamed",
                Outcome.REFUSED,
                field="folder",
            )
        letters = "".join(
            letter
            for letter in unicodedata.normalize("NFKD", called.translate(_LETTERS))
            if not unicodedata.combining(letter)
        )
        plain = re.sub(r"[^a-z0-9]+", "-", letters.lower()).strip("-")
        # A distribution may not be called as what it depends on; `agents` is a package of others.
        name = (
            f"{plain or 'my'}-agents" if plain in ("", "runyard", "agents", "pydantic", "pytest") else plain
        )
        module = name.replace("-", "_")
        module = module if module.endswith("_agents") else f"{module}_agents"
        return cls(folder, name, f"project_{module}" if module[0].isdigit() else module)

    def files(self) -> dict[Path, str]:
        """Its files, each with its text."""
        templates = resources.files("runyard_launch.development.template")
        return {
            self.folder / name.format(module=self.module): Template(
                (templates / template).read_text(encoding="utf-8")
            ).substitute(name=self.name, module=self.module)
            for name, template in FILES.items()
        }

    def make(self) -> list[Path]:
        """Write the files; their paths. `CommandFailed` files_exist where one is there: nothing is written then."""
        files = self.files()
        there = [str(path.relative_to(self.folder)) for path in files if path.exists() or path.is_symlink()]
        if there:
            raise CommandFailed(
                f"{self.folder} has {', '.join(sorted(there))} already. Nothing is written: name another folder.",
                "files_exist",
                Outcome.REFUSED,
                field="folder",
            )
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        return list(files)
