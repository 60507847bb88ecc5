"""Reports of one or several runs, each from analyses and, if there are, the verdicts on them.

``summary.render_terminal``, ``page.render_html``, ``picture.render_png`` and
``document.render_json``; they're imported one by one, as matplotlib takes a second.
"""
