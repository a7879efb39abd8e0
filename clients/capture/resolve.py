"""Finds the program behind a command name: version managers put shell scripts on PATH that only start another one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


class CaptureError(Exception):
    """A recording that cannot be made; the text is one line that says why and what would help."""


def find_valgrind() -> str:
    """Return valgrind's launcher.

    Debian's /usr/bin/valgrind is a script that adds debug libraries to LD_LIBRARY_PATH, which every recorded program
    would then search; the launcher behind it is taken if it is there.

    Raises:
        CaptureError: valgrind is not installed.
    """
    found = shutil.which("valgrind")
    if found is None:
        raise CaptureError("capture needs valgrind: install the Debian package 'valgrind' (apt-get install valgrind)")
    real = Path(found + ".bin")
    return str(real) if os.access(real, os.X_OK) else found


def resolve_program(name: str) -> str:
    """Return the path of the program that a command name stands for, past shims on PATH.

    Raises:
        CaptureError: nothing executable has that name.
    """
    if "/" in name:
        if not os.access(name, os.X_OK) or Path(name).is_dir():
            raise CaptureError(f"{name}: not an executable file")
        return _behind(Path(name), name)
    candidates = [Path(d) / name for d in os.environ.get("PATH", os.defpath).split(os.pathsep) if d]
    usable = [c for c in candidates if c.is_file() and os.access(c, os.X_OK)]
    if not usable:
        raise CaptureError(f"{name}: no such command on PATH")
    for candidate in usable:
        if not _is_shim(candidate):
            return str(candidate)
        real = _ask_manager(candidate, name)
        if real:
            return real
    return str(usable[0])


def _behind(path: Path, name: str) -> str:
    return (_ask_manager(path, path.name) or name) if _is_shim(path) else name


def _is_shim(path: Path) -> bool:
    """Whether a file is a script in a version manager's directory of shims."""
    with path.open("rb") as file:
        script = file.read(2) == b"#!"
    return script and "shims" in path.parts


def _ask_manager(shim: Path, name: str) -> str:
    """Ask the shim's manager (pyenv, rbenv, asdf ...) for the program; a Python shim can tell by itself."""
    manager = next((p.lstrip(".") for p in shim.parts if p.startswith(".") and p.endswith(("env", "asdf"))), "")
    questions = [[manager, "which", name]] if manager else []
    if name.startswith("python"):
        questions.append([str(shim), "-c", "import sys; print(sys.executable)"])
    for question in questions:
        try:
            answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer and os.access(answer, os.X_OK) and not _is_shim(Path(answer)):
            return answer
    return ""
