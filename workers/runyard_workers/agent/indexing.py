"""The built-in agent that indexes a document: read it, cut it into passages, store them."""

from __future__ import annotations

import re
from pathlib import PurePath

from runyard_common.datastores.service.datastores import Indexed, store_passages
from runyard_workers.agent.failures import BadOptions
from runyard_workers.agent.services import Services
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.executor import Result
from runyard_workers.documents.extraction import Extracted, ExtractionError, Section
from runyard_workers.documents.passages import cut


async def index(services: Services, attempt: Attempt, context: RunContext) -> Result:
    """Index the attached file; ``{document_id, passages}``. Reading it again changes nothing.

    Raises `BadOptions` with the reader's code when the file cannot be read; the document then has the error.
    """
    document_id = str(((attempt.task.input or {}).get("args") or {}).get("document_id"))
    if not context.files:
        raise BadOptions("There is no file to index.", code="file_missing", field="file")
    file = context.files[0]
    command = Indexed(attempt.task.id, attempt.fence, attempt.task.org_id, document_id)

    def read() -> tuple[tuple[str, int | None], ...]:
        extracted = services.files.extract(file.read(), file.name, claimed_type=file.media_type)
        return tuple(cut(extracted.sections or _picture(extracted, file.name)))

    try:
        passages = await attempt.run_blocking(read)
        if not passages:
            raise ExtractionError("file_empty", file.name, "it has no text", "Attach a file with text in it.")
    except ExtractionError as error:
        failed = Indexed(command.task_id, command.fence, command.org_id, document_id, error=error.message)
        await attempt.write(store_passages, failed)
        raise BadOptions(error.message, code=error.code) from error
    whole = Indexed(command.task_id, command.fence, command.org_id, document_id, passages)
    count = await attempt.write(store_passages, whole)
    return Result({"document_id": document_id, "passages": count})


def _picture(extracted: Extracted, name: str) -> tuple[Section, ...]:
    """An image's name and size as text: it is found by the words of its name."""
    image = extracted.image
    if image is None:
        return ()
    words = " ".join(re.findall(r"[^\W_]+", PurePath(name).stem))
    text = f"The image {name} ({words}), {extracted.media_type}, {image.width} × {image.height} pixels."
    return (Section(f"{text} What it shows has not been read."),)
