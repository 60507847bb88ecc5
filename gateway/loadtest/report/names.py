"""What runs are called where several stand side by side."""

from collections import Counter
from collections.abc import Sequence

from gateway.loadtest.figures import Analysis


def run_names(analyses: Sequence[Analysis]) -> list[str]:
    """Return the runs' names, told apart by a number where they're the same."""
    seen: Counter[str] = Counter()
    names = []
    for analysis in analyses:
        seen[analysis.name] += 1
        again = seen[analysis.name]
        names.append(analysis.name if again == 1 else f"{analysis.name} ({again})")
    return names
