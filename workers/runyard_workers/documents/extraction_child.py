"""The child process that reads files for the pool: ``python -m runyard_workers.documents.extraction_child <bytes>``.

It serves one request after the other on standard input and output, within that many bytes of memory, and ends
with its input. The kernel's clock ends it when a file takes too long, also if its worker is gone by then.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from runyard_workers.documents import extraction_wire as wire
from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import ExtractionError, ExtractLimits
from runyard_workers.documents.formats import (  # noqa: F401 - loaded once, before any file
    docx,
    html,
    image,
    mail,
    odf,
    pdf,
    pptx,
    rtf,
    table,
    xlsx,
)

# How much longer than its limit a file may take: a parser that looks at the clock gives the better answer.
GRACE_SECONDS = 1.0
MAX_MEMORY_SHARE = 0.5


def main() -> None:
    """Serve until the input ends."""
    requests, answers = _channels()
    memory_bytes = int(sys.argv[1])
    _confine(memory_bytes)
    while True:
        try:
            header, data = wire.read(requests)
        except EOFError:
            return
        limits = ExtractLimits(**header["limits"])
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + GRACE_SECONDS)
        reply = _reply(header, data, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if last := _is_bloated(memory_bytes):
            reply[0]["last"] = True
        wire.write(answers, *reply)
        if last:
            return


def _is_bloated(memory_bytes: int) -> bool:
    """Memory left in pieces may not serve the next large file: better that a fresh child takes over."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not Linux, where nothing limits the address space either
        return False
    return pages * resource.getpagesize() > memory_bytes * MAX_MEMORY_SHARE


def _reply(header: dict[str, Any], data: bytes, limits: ExtractLimits) -> wire.Message:
    try:
        return wire.result(extract(data, header["name"], limits, claimed_type=header["claimed_type"]))
    except ExtractionError as error:
        return wire.failure(error)


def _channels() -> tuple[BinaryIO, BinaryIO]:
    """Input and output for messages alone: what a parser prints must not mix with them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, answers


def _confine(memory_bytes: int) -> None:
    """Bounded memory, no files written, no core dumps; the default action of SIGALRM ends the process."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then closes the input
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # macOS refuses
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    warnings.simplefilter("ignore")
    logging.disable()


if __name__ == "__main__":
    main()
