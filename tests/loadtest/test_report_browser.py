"""The report in a real browser, in light and in dark mode."""

import subprocess
from pathlib import Path

import pytest
from browser import chromium
from PIL import Image

from gateway.loadtest.report.page import render_html
from loadtest.reported import analysed


@pytest.mark.parametrize(
    ("scheme", "surface", "measured"),
    [(1, (255, 255, 255), (27, 98, 165)), (0, (20, 24, 29), (116, 179, 242))],
    ids=["light", "dark"],
)
def test_the_page_is_drawn(
    scheme: int, surface: tuple[int, ...], measured: tuple[int, ...], tmp_path: Path
) -> None:
    """Chromium draws page and charts in the reader's colours, and has nothing to complain of."""
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(render_html([analysed("uniform")]), encoding="utf-8")
    done = subprocess.run(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--hide-scrollbars",
            "--window-size=1200,1600",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    pixels = Image.open(picture).convert("RGB")
    colours = {colour: count for count, colour in pixels.getcolors(1 << 24) or []}
    assert pixels.getpixel((5, 5)) == surface
    assert colours.get(measured, 0) > 500
    assert ":CONSOLE" not in done.stderr
