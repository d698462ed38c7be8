"""Put this folder on PYTHONPATH: the process's host clock is then ahead by TEST_CLOCK_AHEAD seconds."""

import os
import time

_right = time.time
_ahead = float(os.environ.get("TEST_CLOCK_AHEAD", "0"))


def _skewed() -> float:
    return _right() + _ahead


time.time = _skewed
