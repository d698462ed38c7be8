"""The page behind a one-time answer link: one question, one form, no script."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

from runyard_common.human_tasks.rules import Question
from runyard_common.runs.rules.lifecycle import Status

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f4f1;color:#1c1c1a}
main{max-width:40rem;margin:8vh auto;padding:2rem;background:#fff;border:1px solid #ddd;border-radius:8px}
h1{font-size:1.2rem;margin:0 0 1rem}pre{background:#f4f4f1;padding:1rem;overflow:auto;border-radius:6px}
textarea,input,select{width:100%;box-sizing:border-box;font:inherit;padding:.6rem;margin:.3rem 0 1rem}
button{font:inherit;padding:.6rem 1.4rem;margin-right:.6rem;cursor:pointer}label{font-weight:600}
"""
#: No script, no foreign content, no frames; the form posts to where it came from.
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}


def ask(question: Question, refusal: str | None = None) -> str:
    """The form for an open question or review; `refusal` is why the last try did not count."""
    payload = question.payload or {}
    text = str(payload.get("text") or payload.get("action") or "A decision is needed.")
    parts = [f"<h1>{escape(text)}</h1>"]
    if refusal:
        parts.append(f"<p role=alert><strong>{escape(refusal)}</strong></p>")
    parts.append(_review(payload) if question.kind == "review" else _question(payload))
    return _page("Your answer", f"{parts[0]}{''.join(parts[1:-1])}<form method=post>{parts[-1]}</form>")


def done(status: Status) -> str:
    ended = "The run has ended." if status in (Status.FAILED, Status.STOPPED) else "The run goes on."
    return _page("Thank you", f"<h1>Thank you.</h1><p>Your answer is stored. {ended}</p>")


def gone(message: str) -> str:
    """What is shown behind a link that leads nowhere."""
    return _page("No longer open", f"<h1>No longer open</h1><p>{escape(message)}</p>")


def value_of(question: Question, text: str) -> Any:
    """What a form's text means: JSON where the question wants anything but a string."""
    schema = (question.payload or {}).get("schema") or {}
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind in (None, "string") and not (isinstance(schema, dict) and "enum" in schema):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _question(payload: dict[str, Any]) -> str:
    options = payload.get("options") or (payload.get("schema") or {}).get("enum")
    if isinstance(options, list) and options:
        values = [option if isinstance(option, str) else json.dumps(option) for option in options]
        chosen = "".join(f"<option>{escape(value)}</option>" for value in values)
        return f"<select name=message required>{chosen}</select><button>Answer</button>"
    field = "<textarea name=message rows=5 required autofocus aria-label='Your answer'></textarea>"
    return f"{field}<button>Answer</button>"


def _review(payload: dict[str, Any]) -> str:
    shown = {k: payload[k] for k in ("action", "step", "arguments") if payload.get(k) is not None}
    detail = (
        f"<pre>{escape(json.dumps(shown, indent=2, ensure_ascii=False, default=str))}</pre>" if shown else ""
    )
    allowed = payload.get("decisions") or ["approve", "reject"]
    buttons = "".join(
        f"<button name=action value={escape(name)}>{escape(name.capitalize())}</button>"
        for name in allowed
        if name in ("approve", "reject", "redo", "fail")
    )
    return f"{detail}<label>Reason<input name=reason maxlength=2000></label>{buttons}"


def _page(title: str, body: str) -> str:
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><main>{body}</main></html>"
    )
