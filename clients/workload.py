"""Workloads: a machine and the programs that run on it, read from a TOML file and checked key by key.

docs/workloads.md describes the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from clients.units import parse_duration, parse_size
from hardware_sim.arch import arch

DATA = Path(__file__).parent / "data"
"""Shipped traces and workloads."""
TRACES = DATA / "traces"
"""Shipped traces; a workload names them without a directory."""
WORKLOADS = DATA / "workloads"
"""Shipped workloads, found by name."""
TRACE_SUFFIX = ".vmtrace"
"""Ending of a trace file's name."""
KERNELS = ("head-r284275",)
"""Values of `kernel.version`."""
ARCHITECTURES = ("amd64", "arm64", "powerpc64")
"""Architectures on which programs of x86-64 can be replayed: 4 KiB pages, user addresses up to their stack."""
KSTACK_PAGES_LIMIT = 256
"""Most pages of a kernel stack that a workload's build options may ask for."""

_MIB = 1 << 20
_PAGE = 4096
_SYSCTL = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
_HEADER = re.compile(r"\s*\[(\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")

Parser = Callable[[Any], Any]


class WorkloadError(Exception):
    """A workload that cannot be used; the text is one line: file and line, key, what is wrong, what would be right."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The simulated machine."""

    kernel_version: str = KERNELS[0]
    """Kernel whose behaviour is followed (`kernel.version`)."""
    stack_swap: bool = True
    """Kernel stacks of swapped-out processes are pageable (`kernel.stack_swap`)."""
    arch: str = "amd64"
    """Architecture, one of ARCHITECTURES."""
    mips: int = 100
    """Million instructions a second (`cpu.mips`)."""
    ram: int = 64 * _MIB
    """Memory that the kernel may allocate, in bytes."""
    swap: int = 256 * _MIB
    """Swap space, in bytes."""
    hz: int = 1000
    """Clock ticks a second."""
    seed: int = 1
    """Seed of start times, sleeps and the device."""
    kstack_pages: int = 0
    """Build option KSTACK_PAGES (`kernel.options.KSTACK_PAGES`); 0: the architecture's."""
    kstack_guard_pages: int = -1
    """Build option KSTACK_GUARD_PAGES; -1: the architecture's."""
    kstack_max_pages: int = 32
    """Build option KSTACK_MAX_PAGES."""
    kstack_usage_prof: bool = True
    """Build option KSTACK_USAGE_PROF."""
    no_swapping: bool = False
    """Build option NO_SWAPPING."""
    swap_debug: bool = False
    """Build option SWAP_DEBUG."""
    invariants: bool = True
    """Build option INVARIANTS."""
    sysctls: Mapping[str, int] = field(default_factory=dict)
    """Sysctls set at boot, by name."""


@dataclass(frozen=True, slots=True)
class Program:
    """A captured program and how often it runs."""

    trace: Path
    """The trace file."""
    name: str
    """Name of its processes."""
    count: int = 1
    """Instances."""
    start_us: int = 0
    """Virtual time at which the first one starts, in microseconds."""
    start_every_us: int = 0
    """Time between the starts of two instances, in microseconds."""
    nice: int = 0
    """p_nice, -20 to 20."""
    repeat: int = 1
    """Executions of each instance, one after the other in the same process."""
    sleep_scale: float = 1.0
    """Factor for the recorded sleeps."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A machine and its programs."""

    name: str
    """Name, as reports show it."""
    machine: Machine
    """The machine."""
    programs: tuple[Program, ...]
    """What runs on it."""
    source: str = field(default="", compare=False)
    """File that it was read from."""
    sysctl_lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    """Line of each sysctl in that file."""


@dataclass(frozen=True, slots=True)
class _Key:
    """One key of a table: the field that it fills and how its value is read."""

    attribute: str
    parse: Parser


def _integer(low: int, high: int) -> Parser:
    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return parse


def _number(low: float, high: float) -> Parser:
    def parse(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"expected a number from {low} to {high}")
        return float(value)

    return parse


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("expected true or false")
    return value


def _choice(names: tuple[str, ...]) -> Parser:
    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}{_near(str(value), names)}")
        return str(value)

    return parse


def _label(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.+-]{1,19}", value):
        raise ValueError("expected a name of 1 to 19 letters, digits and . _ + - (MAXCOMLEN)")
    return value


def _size(low: int, high: int) -> Parser:
    def parse(value: Any) -> int:
        size = parse_size(value)
        if not low <= size <= high or size % _PAGE:
            raise ValueError(f"expected whole pages from {low // _MIB} MiB to {high // _MIB} MiB")
        return size

    return parse


def _duration(value: Any) -> int:
    duration = parse_duration(value)
    if duration > 366 * 24 * 3_600_000_000:
        raise ValueError("expected at most a year")
    return duration


_WORKLOAD_KEYS = ("name", "machine", "programs")
_RAM = _size(_MIB, 1 << 37)
_SWAP = _size(0, 1 << 40)
_SEED = _integer(0, (1 << 64) - 1)
_SYSCTL_VALUE = _integer(-(1 << 63), (1 << 63) - 1)
_MACHINE_KEYS = {
    "kernel.version": _Key("kernel_version", _choice(KERNELS)),
    "kernel.stack_swap": _Key("stack_swap", _boolean),
    "kernel.options.KSTACK_PAGES": _Key("kstack_pages", _integer(1, KSTACK_PAGES_LIMIT)),
    "kernel.options.KSTACK_GUARD_PAGES": _Key("kstack_guard_pages", _integer(0, KSTACK_PAGES_LIMIT)),
    "kernel.options.KSTACK_MAX_PAGES": _Key("kstack_max_pages", _integer(1, KSTACK_PAGES_LIMIT)),
    "kernel.options.KSTACK_USAGE_PROF": _Key("kstack_usage_prof", _boolean),
    "kernel.options.NO_SWAPPING": _Key("no_swapping", _boolean),
    "kernel.options.SWAP_DEBUG": _Key("swap_debug", _boolean),
    "kernel.options.INVARIANTS": _Key("invariants", _boolean),
    "arch": _Key("arch", _choice(ARCHITECTURES)),
    "cpu.mips": _Key("mips", _integer(1, 100_000)),
    "ram": _Key("ram", _RAM),
    "swap": _Key("swap", _SWAP),
    "hz": _Key("hz", _integer(10, 10_000)),
    "seed": _Key("seed", _SEED),
}
_PROGRAM_KEYS = {
    "name": _Key("name", _label),
    "count": _Key("count", _integer(1, 10_000)),
    "start": _Key("start_us", _duration),
    "start_every": _Key("start_every_us", _duration),
    "nice": _Key("nice", _integer(-20, 20)),
    "repeat": _Key("repeat", _integer(1, 1_000_000)),
    "sleep_scale": _Key("sleep_scale", _number(0.01, 1000)),
}


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
            f"{name_or_path}: no shipped workload has that name; expected a .toml file or one of {known}"
        )
    return WORKLOADS / f"{name_or_path}.toml"


def shipped_workloads() -> tuple[str, ...]:
    """Names of the shipped workloads."""
    return tuple(sorted(p.stem for p in WORKLOADS.glob("*.toml")))


def load_workload(name_or_path: str) -> Workload:
    """Read and check a workload.

    Raises:
        WorkloadError: It cannot be found, or a key or value in it is wrong.
    """
    path = find_workload(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise WorkloadError(f"{path}: cannot be read: {err}") from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise WorkloadError(_syntax_error(path, str(err))) from None
    return _Reader(path, _key_lines(text)).workload(raw)


def override(
    workload: Workload,
    *,
    ram: str | None = None,
    swap: str | None = None,
    seed: int | None = None,
    sysctls: Iterable[str] = (),
) -> Workload:
    """A workload with parts of its machine replaced, as the command line's options ask.

    Args:
        workload: What to change.
        ram: Memory, for example "24 MiB".
        swap: Swap space.
        seed: Seed.
        sysctls: NAME=VALUE each.

    Raises:
        WorkloadError: A value is wrong; the text names the option.
    """
    changes: dict[str, Any] = {}
    options: tuple[tuple[str, object, Parser], ...] = (("ram", ram, _RAM), ("swap", swap, _SWAP), ("seed", seed, _SEED))
    for name, value, parse in options:
        if value is not None:
            changes[name] = _checked(f"--{name}", value, parse)
    added: dict[str, int] = {}
    for setting in sysctls:
        name, equals, text = setting.partition("=")
        if not equals or not _SYSCTL.fullmatch(name.strip()):
            raise WorkloadError(f"--set {setting}: expected NAME=VALUE, for example vm.swap_idle_enabled=1")
        added[name.strip()] = _checked(f"--set {name.strip()}", _literal(text), _SYSCTL_VALUE)
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
            raise WorkloadError(f"{where} {name}: no such sysctl{_near(name, names)}")


class _Reader:
    """Turns one parsed file into a workload; every complaint carries the file and line."""

    def __init__(self, path: Path, lines: dict[str, int]) -> None:
        self._path = path
        self._lines = lines

    def workload(self, raw: dict[str, Any]) -> Workload:
        self._known("", raw, _WORKLOAD_KEYS)
        machine = self._table("machine", raw.get("machine", {}))
        sysctls = self._sysctls(self._table("machine.sysctls", machine.pop("sysctls", {})))
        described = Machine(sysctls=sysctls, **self._fields("machine", _flat(machine), _MACHINE_KEYS))
        self._stack_sizes(described)
        programs = raw.get("programs", [])
        if not isinstance(programs, list) or not programs:
            raise self._error("programs", "expected at least one [[programs]] table")
        return Workload(
            name=self._value("name", raw.get("name", self._path.stem), _label),
            machine=described,
            programs=tuple(self._program(f"programs[{i}]", p) for i, p in enumerate(programs)),
            source=str(self._path),
            sysctl_lines={name: self._line(f"machine.sysctls.{name}") for name in sysctls},
        )

    def _stack_sizes(self, machine: Machine) -> None:
        """vm_thread_swapin's array of KSTACK_MAX_PAGES pages must hold a stack of KSTACK_PAGES (vm_glue.c:573)."""
        pages = machine.kstack_pages or arch(machine.arch).kstack_pages
        if pages > machine.kstack_max_pages:
            named = "KSTACK_PAGES" if machine.kstack_pages else "KSTACK_MAX_PAGES"
            what = f"KSTACK_PAGES is {pages}; expected at most KSTACK_MAX_PAGES, {machine.kstack_max_pages}"
            raise self._error(f"machine.kernel.options.{named}", what)

    def _program(self, where: str, raw: Any) -> Program:
        table = self._table(where, raw)
        self._known(where, table, (*_PROGRAM_KEYS, "trace"))
        if "trace" not in table:
            raise self._error(where, "the key 'trace' is missing")
        trace = self._value(f"{where}.trace", table.pop("trace"), self._trace)
        fields = self._fields(where, table, _PROGRAM_KEYS)
        return Program(**{"trace": trace, "name": _default_name(trace), **fields})

    def _trace(self, value: Any) -> Path:
        """A trace beside the workload or below its folder, else a shipped one."""
        if not isinstance(value, str) or not value:
            raise ValueError("expected the name of a trace file")
        folder = self._path.parent.resolve()
        beside = (folder / value).resolve()
        if not beside.is_relative_to(folder):
            raise ValueError("expected a trace in the workload's folder, or a shipped one by its name")
        if beside.is_file():
            return beside
        shipped = {p.stem: p for p in sorted(TRACES.glob("*" + TRACE_SUFFIX))}
        name = value.removesuffix(TRACE_SUFFIX)
        if name not in shipped:
            raise ValueError(f"no such file here, and no shipped trace has that name ({', '.join(shipped)})")
        return shipped[name]

    def _sysctls(self, raw: dict[str, Any]) -> dict[str, int]:
        values = {}
        for name, value in _flat(raw).items():
            where = f"machine.sysctls.{name}"
            if not _SYSCTL.fullmatch(name):
                raise self._error(where, "expected a sysctl such as vm.swap_idle_enabled")
            values[name] = self._value(where, int(value) if type(value) is bool else value, _SYSCTL_VALUE)
        return values

    def _fields(self, where: str, table: dict[str, Any], keys: dict[str, _Key]) -> dict[str, Any]:
        self._known(where, table, keys)
        return {keys[k].attribute: self._value(f"{where}.{k}", v, keys[k].parse) for k, v in table.items()}

    def _known(self, where: str, table: Iterable[str], names: Iterable[str]) -> None:
        names = tuple(names)
        for key in table:
            if key not in names:
                full = f"{where}.{key}" if where else key
                near = _near(key, names) or f"; expected one of {', '.join(names)}"
                raise self._error(full, f"unknown key{near}")

    def _table(self, where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, f"expected a table, not {value!r}")
        return dict(value)

    def _value(self, where: str, value: Any, parse: Parser) -> Any:
        return _checked(f"{self._path}:{self._line(where)}: {where}", value, parse)

    def _error(self, where: str, what: str) -> WorkloadError:
        return WorkloadError(f"{self._path}:{self._line(where)}: {where}: {what}")

    def _line(self, where: str) -> int:
        """Line of a key, else of the nearest table around it."""
        while where and where not in self._lines:
            where = where.rpartition(".")[0]
        return self._lines.get(where, 1)


def _checked(where: str, value: Any, parse: Parser) -> Any:
    try:
        return parse(value)
    except ValueError as err:
        raise WorkloadError(f"{where} {value!r}: {err}") from None


def _literal(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table whose keys are the dotted paths to its values."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out


def _key_lines(text: str) -> dict[str, int]:
    """The line on which every key and table of a TOML text stands, by dotted path."""
    lines: dict[str, int] = {}
    arrays: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _path(header[2])
            if header[1]:
                arrays[table] = arrays.get(table, -1) + 1
                lines.setdefault(table, number)
                table = f"{table}[{arrays[table]}]"
            lines[table] = number
        elif key := _KEY.match(line):
            lines[f"{table}.{_path(key[1])}" if table else _path(key[1])] = number
    return lines


def _path(key: str) -> str:
    return re.sub(r"\s*\.\s*", ".", key).replace('"', "").replace("'", "")


def _near(name: str, names: Iterable[str]) -> str:
    found = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def _default_name(trace: Path) -> str:
    return trace.stem[:19]


def _syntax_error(path: Path, text: str) -> str:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", text)
    if found is None:
        return f"{path}: not valid TOML: {text}"
    return f"{path}:{found[1]}: not valid TOML: {text[: found.start()]} in column {found[2]}"
