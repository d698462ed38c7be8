"""docs/observability.md: every metric is in it as it is in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runyard_common.metrics.table import document

DOCUMENT = Path(__file__).parents[2] / "docs/observability.md"


@pytest.mark.documents
def test_every_metric_is_documented_as_it_is() -> None:
    written = re.search(
        r"<!-- metrics: begin.*?-->\n(.*)<!-- metrics: end -->", DOCUMENT.read_text(), re.DOTALL
    )
    assert written is not None
    assert written[1] == document(), (
        "run: python -m runyard_common.metrics.table --write docs/observability.md"
    )
