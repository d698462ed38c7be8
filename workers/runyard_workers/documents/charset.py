"""Which text a file's bytes spell: byte order marks, UTF-8, UTF-16, then the likeliest other charset."""

from __future__ import annotations

import codecs

from chardetng_py import detect

SAMPLE_BYTES = 64 * 1024
MAX_CONTROL_SHARE = 0.002

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the UTF-16 mark, so it is asked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r\x1a\x1b"})

# A caller's claim is believed for these alone: other codecs of Python ("punycode", "unicode_escape") are no
# charsets, and some take quadratic time. Latin-1 means Windows-1252, its superset in print, as in browsers.
_DECLARABLE = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gbk": "gb18030",
    **{f"cp{page}": f"cp{page}" for page in (437, 850, 852, 866, 932, 949, *range(1250, 1259))},
    **{f"iso8859-{part}": f"iso8859-{part}" for part in (2, 4, 5, 7, 9, 10, 13, 14, 15, 16)},
    **{name: name for name in ("koi8-r", "koi8-u", "euc_jp", "iso2022_jp", "gb18030", "big5")},
    **{name: name for name in ("mac-roman", "utf-16", "utf-16-le", "utf-16-be")},
}
# The detector speaks the names of the WHATWG encoding standard; these mean other codecs in Python.
_PYTHON_NAMES = {"Shift_JIS": "cp932", "EUC-KR": "cp949", "GBK": "gb18030", "ISO-8859-8-I": "iso8859-8"}


def decode(data: bytes, declared: str = "") -> tuple[str, str] | None:
    """The text and the charset it was written in, or None if the bytes are no text.

    `declared` is a claim (HTTP header, HTML ``meta`` element): it decides where the bytes leave a choice.
    """
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return _wide(data, charset)
    if b"\x00" in data[:SAMPLE_BYTES]:
        guess = _utf16_without_mark(data[:SAMPLE_BYTES])
        return _wide(data, guess) if guess else None
    if _share_of_controls(data) > MAX_CONTROL_SHARE:
        return None
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError as error:
        at = error.start
    if not data[:at].isascii():  # valid UTF-8, then a slip: better one odd sign than a wrong charset
        return data.decode(errors="replace"), "utf-8"
    return _narrow(data, at, declared)


def _wide(data: bytes, charset: str) -> tuple[str, str] | None:
    text = data.decode(charset, "replace")
    controls = sum(text.count(chr(code)) for code in _CONTROLS)
    return None if controls > len(text) * MAX_CONTROL_SHARE else (text, charset)


def _narrow(data: bytes, at: int, declared: str) -> tuple[str, str]:
    if claimed := _declarable(declared):
        try:
            return data.decode(claimed), claimed
        except UnicodeDecodeError:
            pass
    found = detect(data[max(at - 1024, 0) : at + SAMPLE_BYTES])
    charset = _PYTHON_NAMES.get(found, found)
    return data.decode(charset, "replace"), charset


def _share_of_controls(data: bytes) -> float:
    return (len(data) - len(data.translate(None, _CONTROLS))) / max(len(data), 1)


def _utf16_without_mark(sample: bytes) -> str | None:
    """Western text has its high bytes zero: they stand second in little-endian, first in big-endian."""
    first, second = sample[0::2].count(0), sample[1::2].count(0)
    pairs = len(sample) // 2
    if second > pairs * 0.5 and first < pairs * 0.02:
        return "utf-16-le"
    if first > pairs * 0.5 and second < pairs * 0.02:
        return "utf-16-be"
    return None


def _declarable(charset: str) -> str | None:
    try:
        return _DECLARABLE.get(codecs.lookup(charset).name)
    except (LookupError, ValueError):
        return None
