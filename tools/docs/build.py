"""Build the documentation as a site: ``build.py FOLDER`` writes FOLDER/VERSION/, which opens from a disk.

The pages are those of the repository, as they are, and the reference of the HTTP API from docs/openapi.json. A link
that leads nowhere, a page that no list has, and every other warning of Sphinx end the build.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import reference
from sphinx.cmd.build import main as sphinx

ROOT = Path(__file__).parents[2]
#: What the site has, by who reads it; a folder means its pages.
CONTENTS = {
    "Begin": ["docs/installation", "docs/ten-minutes", "docs/recipes", "docs/console", "docs/comparison"],
    "Write agents": ["docs/agents", "docs/adapters/", "docs/testing"],
    "Call": [
        "docs/api",
        "docs/client",
        "docs/callbacks",
        "docs/schedules",
        "docs/limits",
        "docs/lifecycle",
        "docs/fronts/",
    ],
    "Run it": [
        "docs/operations",
        "docs/privacy",
        "docs/sizing",
        "docs/upgrading",
        "docs/deployment",
        "docs/observability",
        "docs/security",
        "docs/performance",
        "docs/chaos",
        "CHANGELOG",
        "SECURITY",
    ],
    "HTTP reference": ["reference/"],
    "How it is built": ["docs/architecture", "docs/decisions/", "CONTRIBUTING"],
}


def build(out: Path) -> Path:
    """The folder of this version's site."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    made = out / version
    shutil.rmtree(made, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        _stage(stage)
        os.environ["RUNYARD_DOCS_VERSION"] = version
        here = str(Path(__file__).parent)
        if sphinx(["-q", "-W", "--keep-going", "-b", "html", "-c", here, folder, str(made)]):
            sys.exit("The documentation has mistakes: see above.")
    shutil.rmtree(made / ".doctrees", ignore_errors=True)
    _list_versions(out)
    return made


def _stage(stage: Path) -> None:
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"):
        shutil.copy(ROOT / name, stage / name)
    for name in ("docs", "examples", "deploy"):
        shutil.copytree(ROOT / name, stage / name, ignore=shutil.ignore_patterns("__pycache__"))
    reference.write(ROOT / "docs" / "openapi.json", stage / "reference")
    contents = "".join(_toctree(stage, title, names) for title, names in CONTENTS.items())
    with (stage / "README.md").open("a") as readme:
        readme.write(contents)


def _toctree(stage: Path, title: str, names: list[str]) -> str:
    pages: list[str] = []
    for name in names:
        if not name.endswith("/"):
            pages.append(name)
            continue
        found = sorted(
            path.relative_to(stage).with_suffix("").as_posix() for path in (stage / name).glob("*.md")
        )
        pages += sorted(found, key=lambda page: not page.endswith("README"))
    return f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```\n"


def _list_versions(out: Path) -> None:
    """A page that leads to every version that is built, the newest first."""
    versions = [path.name for path in out.iterdir() if (path / "README.html").exists()]
    versions.sort(key=lambda name: [int(part) for part in re.findall(r"\d+", name)], reverse=True)
    lines = "".join(f'<li><a href="{name}/README.html">{name}</a></li>' for name in versions)
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Runyard</title><ul>{lines}</ul>'
    (out / "index.html").write_text(page + "</html>\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build.py FOLDER")
    print(build(Path(sys.argv[1])))
