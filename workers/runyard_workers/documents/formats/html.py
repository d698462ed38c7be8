"""Web pages: the text a reader sees, block by block, links with their addresses left out."""

from __future__ import annotations

import re

from lxml import etree, html

from runyard_workers.documents.extraction import Draft

_UNSEEN = {"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "select"}
_INLINE = re.compile(
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|strike"
    "|strong|sub|sup|time|tt|u|var|wbr"
)
_SPACES = re.compile(r"\s+")
_CELLS = {"td", "th"}


def read(text: str, draft: Draft) -> None:
    """Broken markup is repaired as browsers do, as far as the library can."""
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # nothing but comments and blanks
        return
    if any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        draft.cut("The page is nested too deeply; what lies deepest is left out.")
    draft.tick()
    etree.strip_elements(root, *_UNSEEN, with_tail=False)
    draft.add(_tidy(_flow(root, draft)))


def _flow(root: html.HtmlElement, draft: Draft) -> str:
    pieces: list[str] = []
    for step, (event, element) in enumerate(etree.iterwalk(root, events=("start", "end"))):
        if step % 1024 == 0:
            draft.tick()
        tag = str(element.tag)
        text = (element.text if event == "start" else element.tail) or ""
        pieces.append(_edge(tag, event))
        pieces.append(text if tag == "pre" and event == "start" else _SPACES.sub(" ", text))
    return "".join(pieces)


def _edge(tag: str, event: str) -> str:
    """What goes before (start) or after (end) an element's text."""
    if _INLINE.fullmatch(tag):
        return ""
    if tag in _CELLS:
        return "" if event == "start" else "\t"
    if tag == "li" and event == "start":
        return "\n- "
    if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit() and event == "start":
        return "\n\n" + "#" * int(tag[1]) + " "
    return "\n"


def _tidy(text: str) -> str:
    lines = [line.strip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
