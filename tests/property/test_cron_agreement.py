"""Due times against a minute-by-minute cron daemon. (`python -m tests.property.cron_agreement` is larger.)"""

from __future__ import annotations

import pytest

from tests.property.cron_agreement import compare


@pytest.mark.processes
def test_random_lines_zones_and_instants_agree_with_a_minute_by_minute_daemon() -> None:
    tally = compare(3_000, seed=20_260_101, all_zones=False, days=(1, 5, 40))
    assert tally.disagreements == []
    assert tally.cases == 3_000
    assert tally.times > 3_000
    assert tally.opinions["cronsim: agrees"] > 2_000
    assert tally.opinions["croniter: agrees"] > 2_500
