"""Reading one file: sniff what it is, read it within the limits, or say clearly why not.

`extract` runs where it is called and checks its limits between pages, rows and blocks. A file built to hang
or bloat a parser inside one of them is stopped by `extraction_pool`, which runs `extract` in a
child process under a memory limit and a clock.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from runyard import extras
from runyard_workers.documents.extraction import (
    Draft,
    Extracted,
    ExtractionError,
    ExtractLimits,
    Kind,
    megabytes,
)
from runyard_workers.documents.formats import gzip
from runyard_workers.documents.sniff import Sniffed, sniff

DEFAULT_LIMITS = ExtractLimits()
_LIBXML_NO_MEMORY = 2


def extract(
    data: bytes, name: str, limits: ExtractLimits = DEFAULT_LIMITS, *, claimed_type: str = ""
) -> Extracted:
    """Read a file's text and images.

    `name` and `claimed_type` (a media type) are the sender's words: hints where the bytes leave a choice.
    Raises `ExtractionError` for every reason that a file cannot be read.
    """
    check_size(data, name, limits)
    draft = Draft(name, limits)
    try:
        inner = name
        if data.startswith(gzip.MAGIC):
            data, inner = gzip.unpacked(data, name, limits)
        sniffed = sniff(data, inner, claimed_type)
        _read(data, sniffed, draft)
    except ExtractionError as error:
        raise ExtractionError(error.code, name, error.problem, error.remedy) from error.__cause__
    except Exception as error:  # parsers fail on broken files in every way there is
        if _is_out_of_memory(error):
            problem = "reading it takes more memory than one file may"
            raise draft.error("extraction_out_of_memory", problem) from error
        problem = f"it is damaged ({type(error).__name__} while reading it)"
        raise draft.error("file_corrupt", problem) from error
    return draft.finish(sniffed.kind, sniffed.media_type)


def _is_out_of_memory(error: Exception) -> bool:
    """libxml2 reports it as a syntax error with a code of its own."""
    no_memory = getattr(error, "code", None) == _LIBXML_NO_MEMORY
    return isinstance(error, MemoryError) or (type(error).__name__ == "XMLSyntaxError" and no_memory)


def check_size(data: bytes, name: str, limits: ExtractLimits) -> None:
    """Raise ``file_too_large`` for more bytes than are read at all."""
    if len(data) > limits.input_bytes:
        problem = f"it has {megabytes(len(data))}, the limit is {megabytes(limits.input_bytes)}"
        raise ExtractionError("file_too_large", name, problem)


#: The module of `runyard_workers.documents.formats` that reads a kind, from bytes or from the decoded text.
_FROM_BYTES: Final[dict[Kind, str]] = {
    "pdf": "pdf",
    "docx": "docx",
    "pptx": "pptx",
    "xlsx": "xlsx",
    **dict.fromkeys(("odt", "odp", "ods"), "odf"),
    "rtf": "rtf",
    "email": "mail",
    "image": "image",
}
_FROM_TEXT: Final[dict[Kind, str]] = {"csv": "table", "html": "html"}


def _read(data: bytes, sniffed: Sniffed, draft: Draft) -> None:
    """Each parser is imported where a file needs it: a process that reads no workbooks loads no openpyxl."""
    if name := _FROM_BYTES.get(sniffed.kind):
        _parser(name, sniffed.kind, draft).read(data, draft)
    elif name := _FROM_TEXT.get(sniffed.kind):
        _parser(name, sniffed.kind, draft).read(sniffed.text or "", draft)
    else:
        draft.add(sniffed.text or "")


def _parser(name: str, kind: Kind, draft: Draft) -> Any:
    try:
        return import_module(f"runyard_workers.documents.formats.{name}")
    except ModuleNotFoundError as missing:
        if not extras.of_another(missing):
            raise
        problem = f"the workers of this server cannot read files of the kind {kind}"
        raise draft.error("file_reader_missing", problem) from missing
