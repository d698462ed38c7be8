"""Mail: the headers a reader looks for, the text, and the names of what is attached."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, Message

from runyard_workers.documents.extraction import Draft, megabytes
from runyard_workers.documents.formats import html

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_DEEPEST = 3


def read(data: bytes, draft: Draft) -> None:
    """What is attached is named, and not read: attach it by itself. A forwarded mail is read as part of this one."""
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    _read(message, draft, None, 0)


def _read(message: EmailMessage, draft: Draft, label: str | None, depth: int) -> None:
    draft.tick()
    lines = [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]
    draft.add("\n".join(lines), label)
    body = message.get_body(("plain", "html"))
    if body is not None:
        text = _text(body)
        if body.get_content_subtype() == "html":
            html.read(text, draft)
        else:
            draft.add(text)
    for part in message.iter_attachments():
        if part.get_content_type() == "message/rfc822" and depth < _DEEPEST:
            inner = part.get_payload(0) if part.is_multipart() else None
            if isinstance(inner, EmailMessage):
                _read(inner, draft, "attached mail", depth + 1)
                continue
        draft.add(_named(part))


def _header(message: Message, name: str) -> str:
    try:
        return " ".join(str(message[name] or "").split())
    except Exception:  # noqa: BLE001 - the parser of headers fails on broken ones in many ways
        return ""


def _text(part: Message) -> str:
    data = part.get_payload(decode=True)
    content = data if isinstance(data, bytes) else b""
    try:
        return content.decode(part.get_content_charset() or "utf-8", "replace")
    except LookupError:
        return content.decode(errors="replace")


def _named(part: Message) -> str:
    data = part.get_payload(decode=True)
    size = megabytes(len(data)) if isinstance(data, bytes) else "of several parts"
    name = part.get_filename() or "without a name"
    return f"[Attached to the mail, not read: {name}, {part.get_content_type()}, {size}]"
