"""A worker and an api of the previous release are replaced under load, on tables that were migrated beneath them.

`make rolling` does it with every process, and scales the workers. Where the history of git does not reach back to the
previous release (a shallow clone), its place is filled by this one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rolling.deploys import Deployment, roll
from tests.rolling.load import Load
from tests.rolling.releases import NoHistory, extract, previous
from tests.stack import ROOT


@pytest.mark.timeout(600)
def test_no_request_fails_and_no_run_is_lost_or_charged_while_releases_change(tmp_path: Path) -> None:
    try:
        old = extract(previous(), tmp_path / "old")
    except NoHistory as missing:
        print(f"{missing}\nThis release beside itself instead.")
        old = ROOT
    with Deployment(tmp_path, old, apis=1, emptied_first=True) as site:
        with Load(site, per_second=2) as load:
            done = roll(site, ROOT, [("worker-1", "worker-2"), ("api-1", "api-2")])
        found = load.judge()
        print(done, found)
        assert found.is_good, found
        assert found.requests > 0
