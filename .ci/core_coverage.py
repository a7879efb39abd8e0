"""Prints line and branch coverage of the four cores from coverage's JSON report; ends with 1 if one is too low."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

LINES_MIN, BRANCHES_MIN = 95.0, 90.0
"""Percent of the lines and of the branches of each core that tests must reach."""
CORES = ("pager", "physmem", "kstack", "scheduler")
NOT_CORE = ("__main__.py",)


def percent(covered: int, total: int) -> float:
    """A share in percent; of nothing it is 0, so that a core that was not measured fails."""
    return 100.0 * covered / total if total else 0.0


def enough(core: str, files: dict[str, Any]) -> bool:
    """Print the coverage of a core, and of one that has too little what no test reached."""
    sums: Counter[str] = Counter()
    for file in files.values():
        sums.update({key: value for key, value in file["summary"].items() if isinstance(value, int)})
    lines = percent(sums["covered_lines"], sums["num_statements"])
    branches = percent(sums["covered_branches"], sums["num_branches"])
    reached = lines >= LINES_MIN and branches >= BRANCHES_MIN
    print(f"coverage of {core:9} {lines:5.1f} % of {sums['num_statements']:5} lines, ", end="")
    print(f"{branches:5.1f} % of {sums['num_branches']:5} branches{'' if reached else ': TOO LOW'}")
    for name, file in {} if reached else files.items():
        missed = [*file["missing_lines"], *(f"{start}->{end}" for start, end in file["missing_branches"])]
        if missed:
            print(f"  {name}: {', '.join(map(str, missed))}")
    return reached


def main(report: Path) -> int:
    """Print a line for each core."""
    files: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, file in json.loads(report.read_text())["files"].items():
        path = Path(name)
        if path.parent.parent.name == "services" and path.name not in NOT_CORE:
            files[path.parent.name][name] = file
    reached = [enough(core, files[core]) for core in CORES]
    print(f"wanted of each: {LINES_MIN:.0f} % of the lines, {BRANCHES_MIN:.0f} % of the branches")
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
