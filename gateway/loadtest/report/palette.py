"""The colours of the charts, by what they stand for.

Every colour is told from the others with any kind of colour blindness (after Okabe and Ito),
and nothing is said by colour alone: lines differ in style, marks in shape. A page replaces each
by a CSS variable of the same name, so that it follows the reader's light or dark mode.
"""

from collections.abc import Mapping

SURFACE = "#ffffff"
INK = "#1c2127"
MUTED = "#59636e"
GRID = "#dfe3e8"
BEFORE = "#9ba6b2"
STALE = "#d95f02"
MEASURED = "#1b62a5"
THEORY = "#4d4d4f"
SECOND = "#b4560b"
THIRD = "#21826a"
FOURTH = "#8a529f"

RUNS = (MEASURED, SECOND, THIRD, FOURTH)
"""The colours of runs side by side; after the fourth they come again."""

DASHES = ("-", (0, (6, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
"""The line styles of runs side by side."""

VARIABLES: Mapping[str, str] = {
    SURFACE: "surface",
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BEFORE: "before",
    STALE: "stale",
    MEASURED: "run1",
    THEORY: "theory",
    SECOND: "run2",
    THIRD: "run3",
    FOURTH: "run4",
}
"""The CSS variable (without its dashes) for each colour."""

DARK: Mapping[str, str] = {
    "surface": "#14181d",
    "ink": "#e8ebef",
    "muted": "#a3adb8",
    "grid": "#303842",
    "before": "#6b7683",
    "stale": "#ff9a4d",
    "run1": "#74b3f2",
    "theory": "#c9ced4",
    "run2": "#f2a65e",
    "run3": "#5ecfb0",
    "run4": "#cf9fe3",
}
"""What the variables are in dark mode."""
