"""How many examples Hypothesis makes: of the profile in use, `fast` in `make test-fast`."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

EXAMPLES: Final = settings().max_examples
