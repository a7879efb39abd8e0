"""The Node.js client with its packages, away from the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def install(root: Path) -> Path:
    """Install the client; the path of its program.

    Skips, with the reason, where there is no Node.js. Where there is, CI must be able to install the packages;
    elsewhere that is a reason to skip as well, for who is offline.

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
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"npm cannot install the client's packages: {answer.stderr.strip().splitlines()[-1]}")
    return folder / "client.js"
