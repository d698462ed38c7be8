"""Attached files, read for the model: their text, or the image for a model that sees; a bad one with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from runyard.context import File
from runyard_workers.agent import events
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.documents.extraction import ExtractionError, ImageContent
from runyard_workers.documents.extraction_pool import ExtractionPool


@dataclass(frozen=True, slots=True)
class Attached:
    """One file as the model gets it."""

    file: File
    text: str
    image: ImageContent | None = None
    trouble: str | None = None

    @property
    def event(self) -> events.Event:
        """Its event in the log."""
        if self.trouble is not None:
            return events.attachment(self.file.name, "failed", error=self.trouble)
        return events.attachment(
            self.file.name, "read", characters=len(self.text), image=self.image is not None
        )


async def read(attempt: Attempt, files: Sequence[File], pool: ExtractionPool) -> list[Attached]:
    """Read files concurrently, each in a child process."""
    return list(await asyncio.gather(*(attempt.run_blocking(_read, file, pool) for file in files)))


def _read(file: File, pool: ExtractionPool) -> Attached:
    try:
        extracted = pool.extract(file.read(), file.name, claimed_type=file.media_type)
    except ExtractionError as error:
        return Attached(file, "", trouble=error.message)
    text = extracted.text + (f"\n\n[{extracted.notice}]" if extracted.notice else "")
    return Attached(file, text, extracted.image)
