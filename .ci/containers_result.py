"""Makes a short text of pytest's JUnit file: the commit, what was done to the containers, how it went, for how long."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as Xml
from pathlib import Path


def outcome(case: Xml.Element) -> str:
    """How a test ended."""
    kinds = {child.tag for child in case}
    return "FAILED" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


def main(path: Path) -> None:
    """Print the text."""
    suite = next(Xml.parse(path).iter("testsuite"))
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "not known"
    print(f"commit {commit}: {suite.get('tests')} tests in {float(suite.get('time', 0)):.0f} s")
    for case in suite.iter("testcase"):
        module = case.get("classname", "").rpartition(".")[2]
        print(f"{outcome(case):8}{float(case.get('time', 0)):6.0f} s  {module}: {case.get('name')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
