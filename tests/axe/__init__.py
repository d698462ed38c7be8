"""What axe-core (a published checker of accessibility, in `axe.min.js`) finds wrong with a page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

_SOURCE = (Path(__file__).parent / "axe.min.js").read_text()
_SERIOUS = {"serious", "critical"}
_RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.map((one) => ({
    ...one, nodes: one.nodes.map((node) => ({ target: node.target.join(" "), why: node.failureSummary })) }))"""


def violations(page: Page) -> list[str]:
    """The serious and critical findings on the page as it is now, a sentence each; none when it is accessible.

    The checker is evaluated by the browser's debugger, so the page's content policy does not refuse it.
    """
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(_SOURCE)
    return [
        f"{one['help']} ({one['id']}): {node['target']}: {' '.join(node['why'].split())}"
        for one in page.evaluate(_RUN)
        if one["impact"] in _SERIOUS
        for node in one["nodes"]
    ]
