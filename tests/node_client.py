"""The Node.js client with its packages, away from the sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def install(root: Path) -> Path:
    """Install the client; the path of its program. Skips, with the reason, where that cannot be done.

    Args:
        root: An empty folder.
    """
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    folder = root / "clients" / "examples" / "node"
    shutil.copytree(ROOT / "clients" / "examples" / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    (root / "clients" / "data").symlink_to(ROOT / "clients" / "data")
    command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if answer.returncode:
        pytest.skip(f"npm cannot install the client's packages: {answer.stderr.strip().splitlines()[-1]}")
    return folder / "client.js"
