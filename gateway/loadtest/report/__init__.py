"""Reports of one or several runs: for the terminal, as a page, a picture, and for machines.

All take analyses, and optionally the verdicts on them in the same order.
"""

from gateway.loadtest.report.document import render_json
from gateway.loadtest.report.page import render_html
from gateway.loadtest.report.picture import render_png
from gateway.loadtest.report.summary import render_terminal

__all__ = ["render_html", "render_json", "render_png", "render_terminal"]
