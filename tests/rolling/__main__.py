"""A rolling deploy from the previous release to this one, then 1 -> 4 -> 1 workers, under load; fails unless no request
failed, no run was lost and no retry charged.

python -m tests.rolling [--database postgres|sqlite] [--per-second 20] [--previous COMMIT]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.rolling.deploys import Deployment, roll, scale
from tests.rolling.load import Load
from tests.rolling.releases import NoHistory, extract, previous
from tests.servers import Postgres, fresh_database
from tests.stack import ROOT


def main() -> int:
    """0 unless something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--per-second", type=float, default=20)
    parser.add_argument("--previous", default="")
    given = parser.parse_args()
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="runyard-rolling-")))
        try:
            commit = given.previous or previous()
        except NoHistory as refused:
            print(refused, file=sys.stderr)
            return 2
        old = extract(commit, folder / "old")
        url = ""
        if given.database == "postgres":
            server = Postgres(fsync="on")
            undo.callback(server.stop)
            server.start()
            url = fresh_database(server.url)
        print(f"{commit[:12]} -> the working tree, on {given.database}")
        site = Deployment(folder, old, database_url=url)
        undo.enter_context(site)
        return int(not _measured(site, given.per_second))


def _measured(site: Deployment, per_second: float) -> bool:
    deploy = _under_load("rolling deploy", site, per_second, lambda: roll(site, ROOT))
    scaling = _under_load("scaling", site, per_second, lambda: scale(site, "worker-2", 4))
    return deploy and scaling


def _under_load(name: str, site: Deployment, per_second: float, act: Callable[[], list[str]]) -> bool:
    began = time.monotonic()
    with Load(site, per_second) as load:
        done = act()
    found = load.judge()
    print(f"{name}: {'; '.join(done)}\n  {found} ({time.monotonic() - began:.0f} s)")
    return found.is_good


if __name__ == "__main__":
    sys.exit(main())
