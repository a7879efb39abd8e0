"""Workloads: found by name or path, read, and changed by the command line's options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.random_workload import PREFIX, random_text, random_workload
from clients.workload_model import (
    ARCHITECTURES,
    DATA,
    KERNELS,
    KSTACK_PAGES_LIMIT,
    TRACE_SUFFIX,
    TRACES,
    WORKLOADS,
    Machine,
    Program,
    Workload,
    WorkloadError,
)
from clients.workload_reader import RAM, SEED, SYSCTL, SYSCTL_VALUE, Parser, checked, near, read_workload, swap_of_size

__all__ = [
    "ARCHITECTURES",
    "DATA",
    "KERNELS",
    "KSTACK_PAGES_LIMIT",
    "TRACES",
    "TRACE_SUFFIX",
    "WORKLOADS",
    "Machine",
    "Program",
    "Workload",
    "WorkloadError",
    "check_sysctls",
    "find_workload",
    "load_workload",
    "override",
    "shipped_workloads",
    "workload_text",
]


def find_workload(name_or_path: str) -> Path:
    """The file of a workload: a path, or the name of a shipped one.

    Raises:
        WorkloadError: There is no such workload.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or "/" in name_or_path:
        if not path.is_file():
            raise WorkloadError(f"{name_or_path}: no such file")
        return path
    shipped = shipped_workloads()
    if name_or_path not in shipped:
        known = ", ".join(shipped)
        raise WorkloadError(
            f"{name_or_path}: no shipped workload has that name; expected a .toml file, random:SEED, or one of {known}"
        )
    return WORKLOADS / f"{name_or_path}.toml"


def shipped_workloads() -> tuple[str, ...]:
    """Names of the shipped workloads."""
    return tuple(sorted(p.stem for p in WORKLOADS.glob("*.toml")))


def load_workload(name_or_path: str) -> Workload:
    """Read and check a workload: a file, a shipped one by its name, or `random:SEED`.

    Raises:
        WorkloadError: It cannot be found, or a key or value in it is wrong.
    """
    if name_or_path.startswith(PREFIX):
        return random_workload(checked(PREFIX.rstrip(":"), _literal(name_or_path.removeprefix(PREFIX)), SEED))
    path = find_workload(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise WorkloadError(f"{path}: cannot be read: {err}") from None
    return read_workload(path, text)


def workload_text(workload: Workload) -> str:
    """The TOML text that a workload was read from."""
    if workload.source.startswith(PREFIX):
        return random_text(int(workload.source.removeprefix(PREFIX), 0))
    return Path(workload.source).read_text("utf-8")


def override(
    workload: Workload,
    *,
    ram: str | None = None,
    swap: str | None = None,
    seed: int | None = None,
    preempt_seed: int | None = None,
    sysctls: Iterable[str] = (),
) -> Workload:
    """A workload with parts of its machine replaced, as the command line's options ask.

    Args:
        workload: What to change.
        ram: Memory, for example "24 MiB".
        swap: Size of the swap space: one device as it comes.
        seed: Seed.
        preempt_seed: Seed of the preemption points.
        sysctls: NAME=VALUE each.

    Raises:
        WorkloadError: A value is wrong; the text names the option.
    """
    changes: dict[str, Any] = {}
    options: tuple[tuple[str, object, Parser], ...] = (
        ("ram", ram, RAM),
        ("swap", swap, swap_of_size),
        ("seed", seed, SEED),
        ("preempt_seed", preempt_seed, SEED),
    )
    for name, value, parse in options:
        if value is not None:
            changes[name] = checked(f"--{name.replace('_', '-')}", value, parse)
    added: dict[str, int] = {}
    for setting in sysctls:
        name, equals, text = setting.partition("=")
        if not equals or not SYSCTL.fullmatch(name.strip()):
            raise WorkloadError(f"--set {setting}: expected NAME=VALUE, for example vm.swap_idle_enabled=1")
        added[name.strip()] = checked(f"--set {name.strip()}", _literal(text), SYSCTL_VALUE)
    if added:
        changes["sysctls"] = {**workload.machine.sysctls, **added}
    lines = {name: line for name, line in workload.sysctl_lines.items() if name not in added}
    return replace(workload, machine=replace(workload.machine, **changes), sysctl_lines=lines)


def check_sysctls(workload: Workload, known: Iterable[str]) -> None:
    """Compare a workload's sysctls with those that the kernel has.

    Raises:
        WorkloadError: One is unknown; the text has its line and the nearest name.
    """
    names = tuple(known)
    for name in workload.machine.sysctls:
        if name not in names:
            line = workload.sysctl_lines.get(name)
            where = f"{workload.source}:{line}: machine.sysctls" if line else "--set"
            raise WorkloadError(f"{where} {name}: no such sysctl{near(name, names)}")


def _literal(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text
