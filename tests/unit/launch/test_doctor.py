"""What `runyard doctor` says of an installation's files."""

from __future__ import annotations

from pathlib import Path

from common.settings import Settings
from launch.doctor import Verdict, _datastores


def test_sqlite_files_that_belong_to_no_organisation_are_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert _datastores(settings)[0] is Verdict.GOOD
    file = tmp_path / "datastores" / "org-a" / "shop.db"
    file.parent.mkdir(parents=True)
    file.touch()
    assert _datastores(settings)[0] is Verdict.GOOD
    (tmp_path / "datastores" / "old.db").touch()
    verdict, text = _datastores(settings)
    assert verdict is Verdict.ODD
    assert text.startswith("old.db in datastores/ itself")
