"""Files packed with gzip: unpacked within the limits, then read as what they are."""

from __future__ import annotations

import zlib

from runyard_workers.documents.extraction import ExtractionError, ExtractLimits, megabytes

MAGIC = b"\x1f\x8b"
_GZIP = 31  # zlib's window bits for a gzip header
_PIECE = 1 << 20
_BOMB_RATIO = 100


def unpacked(data: bytes, name: str, limits: ExtractLimits) -> tuple[bytes, str]:
    """The content and its name. Raises ``zip_bomb``, ``file_too_large`` or ``file_corrupt``."""
    content = bytearray()
    rest = data
    try:
        while rest.startswith(MAGIC):
            engine = zlib.decompressobj(_GZIP)
            piece = rest
            while not engine.eof:
                content += engine.decompress(piece, _PIECE)
                if len(content) > limits.unpacked_bytes:
                    raise _too_large(len(data), name, limits)
                piece = engine.unconsumed_tail
                if not piece and not engine.eof:
                    raise ExtractionError("file_corrupt", name, "the packed file is cut off")
            rest = engine.unused_data
    except zlib.error as error:
        raise ExtractionError("file_corrupt", name, "the packed file is damaged") from error
    return bytes(content), _inner(name)


def _too_large(packed: int, name: str, limits: ExtractLimits) -> ExtractionError:
    code = "zip_bomb" if limits.unpacked_bytes > packed * _BOMB_RATIO else "file_too_large"
    return ExtractionError(code, name, f"it unpacks to more than {megabytes(limits.unpacked_bytes)}")


def _inner(name: str) -> str:
    for ending in (".gz", ".gzip"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
