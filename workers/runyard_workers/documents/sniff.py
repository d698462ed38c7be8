"""What kind of file the bytes are; the claimed name and type decide only between kinds of text.

The first bytes decide. A file that is two things at once (a PDF with a ZIP appended, an image that is also
a script) is what it begins as. Junk before the header of a PDF is allowed for, as PDF readers do, where the
bytes begin as nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from zipfile import BadZipFile, ZipFile

import puremagic

from runyard_workers.documents.charset import decode
from runyard_workers.documents.extraction import ExtractionError, Kind

OFFICE = "application/vnd.openxmlformats-officedocument"
OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
MEDIA_TYPES: dict[Kind, str] = {
    "pdf": "application/pdf",
    "docx": f"{OFFICE}.wordprocessingml.document",
    "xlsx": f"{OFFICE}.spreadsheetml.sheet",
    "pptx": f"{OFFICE}.presentationml.presentation",
    "odt": f"{OPEN_DOCUMENT}.text",
    "odp": f"{OPEN_DOCUMENT}.presentation",
    "ods": f"{OPEN_DOCUMENT}.spreadsheet",
    "rtf": "application/rtf",
    "email": "message/rfc822",
    "csv": "text/csv",
    "json": "application/json",
    "html": "text/html",
    "markdown": "text/markdown",
    "text": "text/plain",
}
IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp", "image/tiff", "image/x-ms-bmp", "image/bmp"}

_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "markdown",
    ".markdown": "markdown",
}
_CLAIMS: dict[str, Kind] = {media_type: kind for kind, media_type in MEDIA_TYPES.items()} | {
    "text/tab-separated-values": "csv",
    "application/csv": "csv",
    "application/xhtml+xml": "html",
    "text/x-markdown": "markdown",
}
_HTML = re.compile(r"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_MAIN_PART = re.compile(
    rb"(wordprocessingml|ms-word|spreadsheetml|ms-excel|presentationml|ms-powerpoint)[\w.]+\.main\b"
)
_OPEN_DOCUMENT = re.compile(rb"application/vnd\.oasis\.opendocument\.(text|presentation|spreadsheet)")
_OPEN_KINDS: dict[bytes, Kind] = {b"text": "odt", b"presentation": "odp", b"spreadsheet": "ods"}
_MAIL_HEADER = re.compile(
    rb"^(?:From|To|Subject|Date|Received|Return-Path|Message-ID|MIME-Version|Delivered-To):",
    re.IGNORECASE | re.MULTILINE,
)
_PDF_HEADER_WITHIN = 1024  # bytes, as PDF readers have it since Acrobat
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"
_MAX_TYPE_LIST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What a file is: its kind, its media type, and its text if it is one."""

    kind: Kind
    media_type: str
    text: str | None = None


def sniff(data: bytes, name: str, claimed_type: str = "") -> Sniffed:
    """The kind of a file, or `ExtractionError`: empty, unsupported, encrypted or corrupt."""
    if not data:
        raise ExtractionError("file_empty", name, "the file is empty")
    if data.startswith(b"%PDF-"):
        return Sniffed("pdf", MEDIA_TYPES["pdf"])
    if data.startswith(_ZIP):
        return _office(data, name)
    if data.startswith(_OLE):
        raise _compound(data, name)
    magic = _magic(data)
    for media_type, _ in magic:
        if media_type in IMAGES:
            return Sniffed("image", media_type.replace("x-ms-bmp", "bmp"))
    if data.startswith(b"{\\rtf"):
        return Sniffed("rtf", MEDIA_TYPES["rtf"])
    if b"%PDF-" in data[:_PDF_HEADER_WITHIN] and b"startxref" in data[-2048:]:
        return Sniffed("pdf", MEDIA_TYPES["pdf"])
    if _is_mail(data, name, claimed_type):
        return Sniffed("email", MEDIA_TYPES["email"])
    if decoded := decode(data, _charset(data, claimed_type)):
        kind = _text_kind(decoded[0], name, claimed_type)
        return Sniffed(kind, MEDIA_TYPES[kind], decoded[0])
    if data.startswith(b"BM"):  # two letters only: asked for last, after text
        return Sniffed("image", "image/bmp")
    what = magic[0][1] if magic else "binary data of an unknown kind"
    raise ExtractionError("file_unsupported", name, f"its content is of the type {what!r}")


def _is_mail(data: bytes, name: str, claimed_type: str) -> bool:
    """A mail by its name or its type: a text that quotes a mail is none."""
    named = name.lower().endswith(".eml") or claimed_type.lower().startswith("message/rfc822")
    return named and _MAIL_HEADER.search(data[:16384]) is not None


def _magic(data: bytes) -> list[tuple[str, str]]:
    """Media types and names of the signatures the file begins with; short ones say too little."""
    try:
        matches = puremagic.magic_string(data)
    except puremagic.PureError:
        return []
    found = [match for match in matches if 0 <= match.offset <= 8 and len(match.byte_match) >= 3]
    found.sort(key=lambda match: ("executable" not in match.name.lower(), not match.mime_type))
    return [(match.mime_type, match.name) for match in found]


def _office(data: bytes, name: str) -> Sniffed:
    try:
        with ZipFile(BytesIO(data)) as archive:
            types = _entry(archive, "[Content_Types].xml")
            marker = _entry(archive, "mimetype")
    except (BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ExtractionError("file_corrupt", name, "its ZIP container is damaged or cut off") from error
    if b"ms-excel.sheet.binary" in types:
        raise ExtractionError(
            "file_unsupported", name, "binary workbooks (XLSB) are not read", "Save it as XLSX."
        )
    main = found[1] if (found := _MAIN_PART.search(types)) else b""
    if main in (b"wordprocessingml", b"ms-word"):
        return Sniffed("docx", MEDIA_TYPES["docx"])
    if main in (b"spreadsheetml", b"ms-excel"):
        return Sniffed("xlsx", MEDIA_TYPES["xlsx"])
    if main:
        return Sniffed("pptx", MEDIA_TYPES["pptx"])
    if found := _OPEN_DOCUMENT.match(marker):
        kind = _OPEN_KINDS[found[1]]
        return Sniffed(kind, MEDIA_TYPES[kind])
    if b"opendocument" in marker:
        raise ExtractionError(
            "file_unsupported", name, "OpenDocument drawings and formulas are not read", "Save it as PDF."
        )
    raise ExtractionError(
        "file_unsupported", name, "archives are not unpacked", "Attach the files it holds one by one."
    )


def _entry(archive: ZipFile, entry: str) -> bytes:
    try:
        info = archive.getinfo(entry)
    except KeyError:
        return b""
    if info.flag_bits & 1:
        return b""
    with archive.open(info) as stream:
        return stream.read(_MAX_TYPE_LIST_BYTES)


def _compound(data: bytes, name: str) -> ExtractionError:
    """The container of Office before 2007, in which newer Office wraps what it encrypts."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return ExtractionError("file_encrypted", name, "the document is protected by a password")
    for stream, what, remedy in (
        ("WordDocument", "Word 97-2003 documents (DOC)", "Save it as DOCX or PDF."),
        ("Workbook", "Excel 97-2003 workbooks (XLS)", "Save it as XLSX or CSV."),
        ("PowerPoint Document", "PowerPoint 97-2003 presentations (PPT)", "Save it as PDF."),
        ("__substg1.0", "Outlook messages (MSG)", "Save it as text or PDF."),
    ):
        if stream.encode("utf-16-le") in data:
            return ExtractionError("file_unsupported", name, f"{what} are not read", remedy)
    return ExtractionError(
        "file_unsupported", name, "files of Office 97-2003 are not read", "Save it in a newer one."
    )


def _text_kind(text: str, name: str, claimed_type: str) -> Kind:
    if _HTML.match(text[:4096]):
        return "html"
    suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    claim = claimed_type.partition(";")[0].strip().lower()
    kind = _SUFFIXES.get(suffix) or _CLAIMS.get(claim, "text")
    return kind if kind in ("csv", "json", "html", "markdown") else "text"


def _charset(data: bytes, claimed_type: str) -> str:
    """The charset that a web page names in its first kilobyte, or the claimed type names."""
    head = data[:1024].decode("latin-1")
    if found := re.search(
        r"<(?:meta\b[^>]*?\bcharset|\?xml\b[^>]*?\bencoding)\s*=\s*[\"']?([\w.:-]+)", head, re.IGNORECASE
    ):
        return found[1]
    found = re.search(r"charset=[\"']?([\w.:-]+)", claimed_type, re.IGNORECASE)
    return found[1] if found else ""
