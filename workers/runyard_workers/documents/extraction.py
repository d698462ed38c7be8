"""What reading a file takes and gives: the limits, the draft kept within them, the result, the error."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from runyard_common.values.errors import InvalidRequest

Kind = Literal[
    "pdf", "docx", "pptx", "xlsx", "odt", "odp", "ods", "rtf", "email",
    "csv", "json", "html", "markdown", "text", "image",
]  # fmt: skip

MIB = 2**20

REMEDIES = {
    "file_empty": "Attach a file that has content.",
    "file_too_large": "Split the file, or attach only the part that is needed.",
    "zip_bomb": "Split the file, or export what is needed as CSV, PDF or text.",
    "image_too_large": "Scale the image down and attach it again.",
    "file_encrypted": "Remove the password and attach the file again.",
    "file_corrupt": "Open the file in the program it was made with, save it again and attach the new file.",
    "file_unsupported": (
        "Attach it as PDF, DOCX, PPTX, XLSX, ODT, ODP, ODS, RTF, EML, CSV, text, HTML, Markdown, JSON or an image; "
        "any of them may be packed with gzip."
    ),
    "file_reader_missing": (
        "Attach it as text, CSV, JSON or Markdown; or install what reads it where the workers run: pip install "
        '"runyard[files]".'
    ),
    "extraction_timeout": "Split the file, or save it again in a simpler form.",
    "extraction_out_of_memory": "Split the file, or save it again in a simpler form.",
    "extraction_crashed": "Save the file again, or attach it in another format.",
}


class ExtractionError(InvalidRequest):
    """The file cannot be read.

    `code` is a key of `REMEDIES`; the message names the file, what is wrong with it and what to do.
    """

    code = "file_corrupt"

    def __init__(self, code: str, name: str, problem: str, remedy: str = "") -> None:
        self.name = printable(name)
        self.problem = problem
        self.remedy = remedy or REMEDIES[code]
        super().__init__(f"{self.name}: {problem}. {self.remedy}", code=code, file=self.name)


@dataclass(frozen=True, slots=True)
class ExtractLimits:
    """What a file may cost: beyond `pages`, `characters`, `cells` it is cut short, beyond others refused."""

    input_bytes: int = 32 * MIB
    unpacked_bytes: int = 64 * MIB
    parts: int = 10_000
    pages: int = 500
    characters: int = 1_000_000
    cells: int = 500_000
    pixels: int = 50_000_000
    image_edge: int = 2048
    image_bytes: int = 3_500_000
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of text and its place: ``page 3``, ``sheet Costs``, or None."""

    text: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image fit for a model that sees: PNG, JPEG, GIF or WebP, upright, within the limits."""

    data: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Extracted:
    """The content of a file. `pages` counts all pages, slides or sheets of a file that has them, also those left out.

    `truncated`: something was left out; `notice` names it for the model.
    """

    kind: Kind
    media_type: str
    sections: tuple[Section, ...] = ()
    pages: int | None = None
    truncated: bool = False
    image: ImageContent | None = None
    notice: str | None = None

    @property
    def text(self) -> str:
        """All sections, each under its label in brackets."""
        return "\n\n".join(
            f"[{part.label}]\n{part.text}" if part.label else part.text for part in self.sections
        )


@dataclass
class Draft:
    """A result in the making, kept within the limits; every reader writes into one."""

    name: str
    limits: ExtractLimits
    sections: list[Section] = field(default_factory=list)
    pages: int | None = None
    image: ImageContent | None = None
    truncated: bool = False
    cells: int = 0
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._characters_left = self.limits.characters
        self._deadline = time.monotonic() + self.limits.seconds

    @property
    def full(self) -> bool:
        """Whether the character limit is reached: nothing added from now on is kept."""
        return self._characters_left <= 0

    def tick(self) -> None:
        """Between pages, rows or blocks: raise ``extraction_timeout`` once the time is up."""
        if time.monotonic() > self._deadline:
            raise self.error("extraction_timeout", f"reading it took longer than {self.limits.seconds:g} s")

    def add(self, text: str, label: str | None = None) -> None:
        """Append a section, cut to the room that is left; blank ones are dropped."""
        text = clean(text).strip("\n")
        if not text.strip():
            return
        if len(text) > self._characters_left:
            self.cut(f"Only the first {self.limits.characters:,} characters are included.")
            text = text[: max(self._characters_left, 0)]
        if text:
            self.sections.append(Section(text, label))
        self._characters_left -= len(text) or 1

    def cut(self, notice: str) -> None:
        """Note that something is left out, and what."""
        self.truncated = True
        if notice not in self.notices:
            self.notices.append(notice)

    def error(self, code: str, problem: str, remedy: str = "") -> ExtractionError:
        """The error for a file that cannot be read."""
        return ExtractionError(code, self.name, problem, remedy)

    def finish(self, kind: Kind, media_type: str) -> Extracted:
        """The result."""
        return Extracted(
            kind=kind,
            media_type=media_type,
            sections=tuple(self.sections),
            pages=self.pages,
            truncated=self.truncated,
            image=self.image,
            notice=" ".join(self.notices) or None,
        )


def clean(text: str) -> str:
    """The text without what databases and JSON refuse: NUL characters and half surrogate pairs."""
    text = text.replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def printable(name: str) -> str:
    """A file name fit for a message: its last part, no control characters, at most 120 characters."""
    last = clean(name).replace("\\", "/").rpartition("/")[2]
    last = "".join(char for char in last if unicodedata.category(char)[0] != "C")
    return last[:120] or "the file"


def megabytes(size: int) -> str:
    """A size for people: ``12.5 MB``."""
    return f"{size / MIB:,.1f} MB".replace(".0 MB", " MB")
