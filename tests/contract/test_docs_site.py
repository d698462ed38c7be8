"""`make docs`: the documentation as a site, without a link that leads nowhere, readable and searchable from a disk."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.timeout(400), pytest.mark.processes]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site of this version."""
    out = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        ["make", "--no-print-directory", "docs", f"OUT={out}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (version,) = [path for path in out.iterdir() if path.is_dir()]
    assert f'href="{version.name}/README.html"' in (out / "index.html").read_text()
    return version


def test_every_page_of_the_repository_is_in_it_and_every_operation_in_its_reference(site: Path) -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    missing = [page for page in pages if not (site / page.relative_to(ROOT)).with_suffix(".html").exists()]
    assert missing == []
    reference = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    assert [path for path in paths if path not in reference] == []


def test_it_needs_no_other_server_and_has_a_search(site: Path) -> None:
    page = (site / "docs" / "agents.html").read_text()
    assert 'src="http' not in page
    assert "Search.setIndex" in (site / "searchindex.js").read_text()[:200]
