"""Reading one file: sniff what it is, read it within the limits, or say clearly why not.

`extract` runs where it is called and checks its limits between pages, rows and blocks. A file built to hang
or bloat a parser inside one of them is stopped by `workers.agent.extraction_pool`, which runs `extract` in a
child process under a memory limit and a clock.
"""

from __future__ import annotations

from workers.agent.extraction import Draft, Extracted, ExtractionError, ExtractLimits, megabytes
from workers.agent.sniff import Sniffed, sniff

DEFAULT_LIMITS = ExtractLimits()
_LIBXML_NO_MEMORY = 2


def extract(
    data: bytes, name: str, limits: ExtractLimits = DEFAULT_LIMITS, *, claimed_type: str = ""
) -> Extracted:
    """What the file says.

    `name` and `claimed_type` (a media type) are the sender's words: hints where the bytes leave a choice.
    Raises `ExtractionError`, for whatever reason the file cannot be read.
    """
    check_size(data, name, limits)
    draft = Draft(name, limits)
    try:
        sniffed = sniff(data, name, claimed_type)
        _read(data, sniffed, draft)
    except ExtractionError:
        raise
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


def _read(data: bytes, sniffed: Sniffed, draft: Draft) -> None:
    """Each parser is imported where a file needs it: a process that reads no workbooks loads no openpyxl."""
    text = sniffed.text or ""
    match sniffed.kind:
        case "pdf":
            from workers.agent.formats import pdf

            pdf.read(data, draft)
        case "docx":
            from workers.agent.formats import docx

            docx.read(data, draft)
        case "xlsx":
            from workers.agent.formats import xlsx

            xlsx.read(data, draft)
        case "image":
            from workers.agent.formats import image

            image.read(data, draft)
        case "csv":
            from workers.agent.formats import table

            table.read(text, draft)
        case "html":
            from workers.agent.formats import html

            html.read(text, draft)
        case _:
            draft.add(text)
