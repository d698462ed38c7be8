"""PDF: the text of each page, and what was filled into its form."""

from __future__ import annotations

import logging
from io import BytesIO

from pypdf import PageObject, PasswordType, PdfReader, apply_configuration
from pypdf.errors import FileNotDecryptedError, LimitReachedError
from pypdf.generic import DictionaryObject, IndirectObject

from runyard_workers.documents.extraction import Draft, megabytes

# Its warnings are about other people's files, many to each, and name none of them.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def read(data: bytes, draft: Draft) -> None:
    """Raises ``file_encrypted``, ``file_corrupt`` or ``zip_bomb`` (a stream beyond ``unpacked_bytes``)."""
    limit = draft.limits.unpacked_bytes
    try:
        with apply_configuration(
            zlib_maximum_output_length=limit,
            lzw_maximum_output_length=limit,
            run_length_maximum_output_length=limit,
            array_based_stream_maximum_output_length=limit,
            jbig2dec_binary=None,  # no other program is started for a file
        ):
            _read(data, draft)
    except FileNotDecryptedError as error:
        raise draft.error("file_encrypted", "the PDF is protected by a password") from error
    except LimitReachedError as error:
        problem = f"parts of it unpack beyond what is allowed ({megabytes(limit)} each)"
        raise draft.error("zip_bomb", problem, "Print it to a new PDF, or attach it as text.") from error


def _read(data: bytes, draft: Draft) -> None:
    reader = PdfReader(BytesIO(data))
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        raise draft.error("file_encrypted", "the PDF is protected by a password")
    draft.pages = len(reader.pages)
    tree = reader.root_object["/Pages"]
    promised = tree.get("/Count") if isinstance(tree, DictionaryObject) else None
    if draft.pages == 0 or (isinstance(promised, int) and promised > draft.pages):
        problem = f"only {draft.pages} of its {promised} pages are there, the PDF may be cut off"
        raise draft.error("file_corrupt", problem)
    if draft.pages > draft.limits.pages:
        draft.cut(f"Only the first {draft.limits.pages:,} of {draft.pages:,} pages are included.")
    for number, page in enumerate(reader.pages[: draft.limits.pages], start=1):
        draft.tick()
        if draft.full:
            break
        if _content_is_lost(page):
            problem = f"the content of page {number} is missing, the PDF may be cut off"
            raise draft.error("file_corrupt", problem)
        draft.add(page.extract_text(), f"page {number}")
    _read_form(reader, draft)
    if not draft.sections:
        draft.notices.append("The PDF holds no text, only images; it may be a scan.")


def _content_is_lost(page: PageObject) -> bool:
    """Whether the page points to content that is nowhere in the file; the library takes such a page for blank."""
    pointer = dict.get(page, "/Contents")
    return isinstance(pointer, IndirectObject) and pointer.get_object() is None


def _read_form(reader: PdfReader, draft: Draft) -> None:
    """Values typed into a form are no part of any page's text."""
    fields = reader.get_form_text_fields() or {}
    filled = [f"{name}: {value}" for name, value in fields.items() if value]
    draft.add("\n".join(filled), "form fields")
