"""How Sphinx makes the site: Markdown as it is, a theme for light and dark, search without a server."""

from __future__ import annotations

import os

project = "Runyard"
version = release = os.environ["RUNYARD_DOCS_VERSION"]
html_title = f"Runyard {version}"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "README"
myst_heading_anchors = 5
html_theme = "furo"
html_copy_source = False
html_show_sourcelink = False
# Diagrams are shown as their source; examples leave things out with an ellipsis, which no lexer knows.
suppress_warnings = ["misc.highlighting_failure"]
