"""Prints line and branch coverage of the four cores from coverage's JSON report; ends with 1 if it is too low."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

LINES_MIN, BRANCHES_MIN = 95.0, 90.0
"""Percent of all lines and of all branches that tests must reach."""
CORES = ("pager", "physmem", "kstack", "scheduler")
NOT_CORE = ("__main__.py",)


def percent(covered: int, total: int) -> float:
    """A share in percent; all of nothing is 100."""
    return 100.0 * covered / total if total else 100.0


def main(report: Path) -> int:
    """Print a line for each core and their sum."""
    total: dict[str, Counter[str]] = {core: Counter() for core in (*CORES, "all four")}
    for name, file in json.loads(report.read_text())["files"].items():
        path = Path(name)
        if path.parts[-2] in CORES and path.name not in NOT_CORE:
            for core in (path.parts[-2], "all four"):
                total[core].update({key: value for key, value in file["summary"].items() if isinstance(value, int)})
    for core, sums in total.items():
        lines = percent(sums["covered_lines"], sums["num_statements"])
        branches = percent(sums["covered_branches"], sums["num_branches"])
        print(f"coverage of {core:10} {lines:5.1f} % of {sums['num_statements']:5} lines, ", end="")
        print(f"{branches:5.1f} % of {sums['num_branches']:5} branches")
    enough = all(total.values()) and lines >= LINES_MIN and branches >= BRANCHES_MIN  # every core was measured
    print(
        f"wanted: {LINES_MIN:.0f} % of the lines, {BRANCHES_MIN:.0f} % of the branches{'' if enough else ': TOO LOW'}"
    )
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
