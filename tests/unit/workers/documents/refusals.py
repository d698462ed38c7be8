"""What every refusal of a file must say."""

from __future__ import annotations

import pytest

from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import REMEDIES, ExtractionError, ExtractLimits


def refusal(data: bytes, name: str, limits: ExtractLimits | None = None) -> ExtractionError:
    with pytest.raises(ExtractionError) as caught:
        extract(data, name, limits or ExtractLimits())
    error = caught.value
    assert error.code in REMEDIES
    assert name in error.message, "the file is named"
    assert error.remedy in error.message, "the remedy is in it"
    assert error.details == {"file": name}
    return error
