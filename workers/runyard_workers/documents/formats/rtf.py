"""Rich text: its words, without the fonts and pictures."""

from __future__ import annotations

from striprtf.striprtf import rtf_to_text

from runyard_workers.documents.extraction import Draft


def read(data: bytes, draft: Draft) -> None:
    """Bytes beyond ASCII are what the file's own charset makes of them, where it names one."""
    text = rtf_to_text(data.decode("cp1252", "replace"), errors="replace")  # type: ignore[no-untyped-call]
    draft.add(str(text))
