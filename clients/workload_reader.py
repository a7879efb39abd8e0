"""Workload files read and checked key by key: a mistake is one line with file, line, key and what would be right.

docs/workloads.md describes the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from clients.units import format_size, parse_duration, parse_size
from clients.workload_model import (
    ARCHITECTURES,
    ARRIVALS,
    CALLS,
    CLASSES,
    KERNELS,
    KSTACK_PAGES_LIMIT,
    MIB,
    NCPU_MAX,
    PAGE,
    PATTERNS,
    RTPRIO_MAX,
    THREADS_MAX,
    TRACE_SUFFIX,
    TRACES,
    VISIT,
    Machine,
    Phase,
    Program,
    Workload,
    WorkloadError,
    plain_swap,
)
from hardware_sim.arch import arch
from hardware_sim.disk import KINDS, MILLION
from services.ports.pager import DiskFaults, SwapDisk
from services.runtime.limits import SWAP_DEVICES_MAX

SYSCTL = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
"""What a sysctl's name looks like."""
_HEADER = re.compile(r"\s*\[(\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")

Parser = Callable[[Any], Any]
"""Turns a value of the file into what the machine is described with; a ValueError says what was expected."""


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
            raise ValueError(f"expected one of {', '.join(names)}{near(str(value), names)}")
        return str(value)

    return parse


def _label(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.+-]{1,19}", value):
        raise ValueError("expected a name of 1 to 19 letters, digits and . _ + - (MAXCOMLEN)")
    return value


def _size(low: int, high: int) -> Parser:
    def parse(value: Any) -> int:
        size = parse_size(value)
        if not low <= size <= high or size % PAGE:
            raise ValueError(f"expected whole pages from {format_size(low)} to {format_size(high)}")
        return size

    return parse


def _duration(value: Any) -> int:
    duration = parse_duration(value)
    if duration > 366 * 24 * 3_600_000_000:
        raise ValueError("expected at most a year")
    return duration


def _pages(value: Any) -> int:
    """A made-up program's memory, in pages."""
    return int(_size(PAGE, 1 << 32)(value)) // PAGE


def _rtprio(value: Any) -> tuple[str, int]:
    """A class and the priority in it."""
    if not isinstance(value, dict) or not {"class"} <= value.keys() <= {"class", "priority"}:
        raise ValueError('expected a table such as { class = "realtime", priority = 5 }')
    return _choice(tuple(CLASSES))(value["class"]), _integer(0, RTPRIO_MAX)(value.get("priority", 0))


_WORKLOAD_KEYS = ("name", "machine", "phases", "programs")
RAM = _size(MIB, 1 << 37)
"""Reads `machine.ram`."""
_SWAP_MAX = 1 << 40
_SWAP_DEVICE_MIN = 3 * PAGE
_SWAP_SIZE = _size(0, _SWAP_MAX)


def swap_of_size(value: Any) -> tuple[SwapDisk, ...]:
    """Reads a plain size of swap: one device as it comes, or none."""
    size = _SWAP_SIZE(value)
    if 0 < size < _SWAP_DEVICE_MIN:
        raise ValueError(f"expected 0 B, or at least {format_size(_SWAP_DEVICE_MIN)}")
    return plain_swap(size)


SEED = _integer(0, (1 << 64) - 1)
"""Reads `machine.seed`."""
SYSCTL_VALUE = _integer(-(1 << 63), (1 << 63) - 1)
"""Reads the value of a sysctl."""
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
    "cpu.shootdown_ns": _Key("shootdown_ns", _integer(0, 1_000_000)),
    "cpu.ipi_ns": _Key("ipi_ns", _integer(0, 1_000_000)),
    "ram": _Key("ram", RAM),
    "hz": _Key("hz", _integer(10, 10_000)),
    "ncpu": _Key("ncpu", _integer(1, NCPU_MAX)),
    "seed": _Key("seed", SEED),
    "preempt_seed": _Key("preempt_seed", SEED),
}
_CHANCE = _integer(0, MILLION)
_SWAP_KEYS = {
    "kind": _Key("kind", _choice(tuple(KINDS))),
    "later": _Key("later", _boolean),
    "size": _Key("pages", lambda value: _size(_SWAP_DEVICE_MIN, _SWAP_MAX)(value) // PAGE),
    "faults.seed": _Key("seed", SEED),
    "faults.read": _Key("read_per_million", _CHANCE),
    "faults.write": _Key("write_per_million", _CHANCE),
    "faults.latency": _Key("latency_per_million", _CHANCE),
    "faults.stall": _Key("latency_us", _duration),
    "faults.full": _Key("full_per_million", _CHANCE),
}
_PROGRAM_KEYS = {
    "name": _Key("name", _label),
    "count": _Key("count", _integer(1, 10_000)),
    "start": _Key("start_us", _duration),
    "start_every": _Key("start_every_us", _duration),
    "arrivals": _Key("arrivals", _choice(ARRIVALS)),
    "think": _Key("think_us", _duration),
    "pressure": _Key("pressure", _boolean),
    "nice": _Key("nice", _integer(-20, 20)),
    "rtprio": _Key("rtprio", _rtprio),
    "stop": _Key("stop_us", _duration),
    "continue": _Key("continue_us", _duration),
    "rss_limit": _Key("rss_limit", _pages),
    "memlock_limit": _Key("memlock_limit", _pages),
    "repeat": _Key("repeat", _integer(1, 1_000_000)),
    "sleep_scale": _Key("sleep_scale", _number(0.01, 1000)),
    "memory_scale": _Key("memory_scale", _integer(1, 64)),
}
_REFERENCES = _integer(1, 200_000_000)
_THREADS = _Key("threads", _integer(1, THREADS_MAX))
_PHASE_KEYS = {
    "pattern": _Key("pattern", _choice(PATTERNS)),
    "memory": _Key("pages", _pages),
    "references": _Key("references", _REFERENCES),
    "visit": _Key("visit", _integer(1, 1000)),
    "alpha": _Key("alpha", _number(0, 10)),
    "window": _Key("window", _pages),
    "writes": _Key("writes", _number(0, 1)),
    "burst": _Key("burst", _REFERENCES),
    "think": _Key("think_us", _duration),
    "call": _Key("call", _choice(tuple(CALLS))),
    "mlock": _Key("mlock", _pages),
    "swapon": _Key("swapon", _integer(0, SWAP_DEVICES_MAX - 1)),
    "swapoff": _Key("swapoff", _integer(0, SWAP_DEVICES_MAX - 1)),
    "shm": _Key("shm", _integer(1, (1 << 31) - 1)),
    "threads": _THREADS,
}
_DAEMON_KEYS = {
    "call": _Key("call", _choice(tuple(CALLS))),
    "threads": _THREADS,
    "every": _Key("think_us", _duration),
    "wakeups": _Key("wakeups", _integer(1, 1_000_000)),
    "memory": _Key("pages", _pages),
    "touches": _Key("touches", _integer(1, 100_000)),
}
DAEMON_PAGES, DAEMON_TOUCHES = 64, 8
"""Memory of a daemon, and pages that it visits at each wakeup, where the file does not say."""
_VISITS_MAX = 25_000_000
_THREADS_IN_ALL = 20_000
"""Most threads that a made-up program starts in its life."""
_KINDS_OF_PROGRAM = ("trace", "phases", "daemon")


def read_workload(path: Path, text: str) -> Workload:
    """Read and check a workload's text.

    Args:
        path: File that it comes from: its folder holds the traces, complaints name it.
        text: TOML.

    Raises:
        WorkloadError: A key or value in it is wrong.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise WorkloadError(_syntax_error(path, str(err))) from None
    return _Reader(path, _key_lines(text)).workload(raw)


class _Reader:
    """Turns one parsed file into a workload; every complaint carries the file and line."""

    def __init__(self, path: Path, lines: dict[str, int]) -> None:
        self._path = path
        self._lines = lines
        self._starts: dict[str, int] = {}
        self._segments: dict[int, int] = {}

    def workload(self, raw: dict[str, Any]) -> Workload:
        self._known("", raw, _WORKLOAD_KEYS)
        machine = self._table("machine", raw.get("machine", {}))
        sysctls = self._sysctls(self._table("machine.sysctls", machine.pop("sysctls", {})))
        swap: dict[str, Any] = {"swap": self._swap(machine.pop("swap"))} if "swap" in machine else {}
        described = Machine(sysctls=sysctls, **swap, **self._fields("machine", _flat(machine), _MACHINE_KEYS))
        self._stack_sizes(described)
        starts = self._table("phases", raw.get("phases", {}))
        self._starts = {name: self._value(f"phases.{name}", value, _duration) for name, value in starts.items()}
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

    def _swap(self, raw: Any) -> tuple[SwapDisk, ...]:
        """A size, which is one device as it comes, or a table for each device."""
        if not isinstance(raw, list):
            return tuple(self._value("machine.swap", raw, swap_of_size))
        if len(raw) > SWAP_DEVICES_MAX:
            raise self._error("machine.swap", f"{len(raw)} devices; expected at most {SWAP_DEVICES_MAX}")
        return tuple(self._swap_device(f"machine.swap[{number}]", entry) for number, entry in enumerate(raw))

    def _swap_device(self, where: str, raw: Any) -> SwapDisk:
        fields = self._fields(where, _flat(self._table(where, raw)), _SWAP_KEYS)
        self._required(where, fields, _SWAP_KEYS, ("pages",))
        disk = {name: fields.pop(name) for name in ("kind", "pages", "later") if name in fields}
        return SwapDisk(faults=DiskFaults(**fields), **disk)

    def _stack_sizes(self, machine: Machine) -> None:
        """vm_thread_swapin's array of KSTACK_MAX_PAGES pages must hold a stack of KSTACK_PAGES (vm_glue.c:573)."""
        pages = machine.kstack_pages or arch(machine.arch).kstack_pages
        if pages > machine.kstack_max_pages:
            named = "KSTACK_PAGES" if machine.kstack_pages else "KSTACK_MAX_PAGES"
            what = f"KSTACK_PAGES is {pages}; expected at most KSTACK_MAX_PAGES, {machine.kstack_max_pages}"
            raise self._error(f"machine.kernel.options.{named}", what)

    def _program(self, where: str, raw: Any) -> Program:
        table = self._table(where, raw)
        self._known(where, table, (*_PROGRAM_KEYS, *_KINDS_OF_PROGRAM, "phase"))
        kinds = [kind for kind in _KINDS_OF_PROGRAM if kind in table]
        if len(kinds) != 1:
            named = f"{' and '.join(kinds)} exclude one another" if kinds else "the key 'trace' is missing"
            raise self._error(where, f"{named}; expected one of {', '.join(_KINDS_OF_PROGRAM)}")
        what, phase = table.pop(kinds[0]), table.pop("phase", None)
        fields = self._fields(where, table, _PROGRAM_KEYS)
        if phase is not None:
            begun = self._value(f"{where}.phase", phase, _choice(tuple(self._starts)))
            fields["start_us"] = fields.get("start_us", 0) + self._starts[begun]
        if kinds[0] == "trace":
            trace = self._value(f"{where}.trace", what, self._trace)
            return Program(**{"trace": trace, "name": _default_name(trace), **fields})
        if "memory_scale" in fields:
            raise self._error(f"{where}.memory_scale", "only a captured program's memory is scaled; set its 'memory'")
        made = self._phases(f"{where}.phases", what) if kinds[0] == "phases" else self._daemon(f"{where}.daemon", what)
        name = fields.pop("name", kinds[0].removesuffix("s"))
        return Program(trace=Path(f"{where}/{name}"), name=name, phases=made, **fields)

    def _phases(self, where: str, raw: Any) -> tuple[Phase, ...]:
        if not isinstance(raw, list) or not raw:
            raise self._error(where, "expected at least one table")
        return tuple(self._phase(f"{where}[{number}]", entry) for number, entry in enumerate(raw))

    def _phase(self, where: str, raw: Any) -> Phase:
        fields = self._fields(where, self._table(where, raw), _PHASE_KEYS)
        self._required(where, fields, _PHASE_KEYS, ("pattern", "pages", "references"))
        phase = Phase(**fields)
        pages = self._segments.setdefault(phase.shm, phase.pages)
        if phase.shm and pages != phase.pages:
            what = f"segment {phase.shm} has {phase.pages} pages; expected {pages}, as where it is named first"
            raise self._error(f"{where}.memory", what)
        self._few_threads(where, -(-phase.references // (phase.burst or phase.references)), phase.threads)
        return phase

    def _few_threads(self, where: str, bursts: int, threads: int) -> None:
        if threads > 1 and bursts * threads > _THREADS_IN_ALL:
            raise self._error(where, f"{bursts} bursts by {threads} threads; expected at most {_THREADS_IN_ALL}")

    def _daemon(self, where: str, raw: Any) -> tuple[Phase, ...]:
        """A daemon fills its memory, then sleeps in a call and visits some of it, again and again."""
        fields = self._fields(where, self._table(where, raw), _DAEMON_KEYS)
        self._required(where, fields, _DAEMON_KEYS, ("call", "think_us", "wakeups"))
        pages, touches = fields.get("pages", DAEMON_PAGES), fields.get("touches", DAEMON_TOUCHES)
        burst = touches * VISIT
        if fields["wakeups"] * touches > _VISITS_MAX:
            raise self._error(
                where, f"{fields['wakeups']} wakeups of {touches} touches; expected at most {_VISITS_MAX}"
            )
        self._few_threads(where, fields["wakeups"], fields.get("threads", 1))
        return (
            Phase("scan", pages, pages * VISIT, writes=1.0),
            Phase(
                "zipf",
                pages,
                fields["wakeups"] * burst,
                burst=burst,
                think_us=fields["think_us"],
                call=fields["call"],
                threads=fields.get("threads", 1),
            ),
        )

    def _required(self, where: str, fields: dict[str, Any], keys: dict[str, _Key], attributes: tuple[str, ...]) -> None:
        for name, key in keys.items():
            if key.attribute in attributes and key.attribute not in fields:
                raise self._error(where, f"the key {name!r} is missing")

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
            if not SYSCTL.fullmatch(name):
                raise self._error(where, "expected a sysctl such as vm.swap_idle_enabled")
            values[name] = self._value(where, int(value) if type(value) is bool else value, SYSCTL_VALUE)
        return values

    def _fields(self, where: str, table: dict[str, Any], keys: dict[str, _Key]) -> dict[str, Any]:
        self._known(where, table, keys)
        return {keys[k].attribute: self._value(f"{where}.{k}", v, keys[k].parse) for k, v in table.items()}

    def _known(self, where: str, table: Iterable[str], names: Iterable[str]) -> None:
        names = tuple(names)
        for key in table:
            if key not in names:
                full = f"{where}.{key}" if where else key
                hint = near(key, names) or f"; expected one of {', '.join(names)}"
                raise self._error(full, f"unknown key{hint}")

    def _table(self, where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, f"expected a table, not {value!r}")
        return dict(value)

    def _value(self, where: str, value: Any, parse: Parser) -> Any:
        return checked(f"{self._path}:{self._line(where)}: {where}", value, parse)

    def _error(self, where: str, what: str) -> WorkloadError:
        return WorkloadError(f"{self._path}:{self._line(where)}: {where}: {what}")

    def _line(self, where: str) -> int:
        """Line of a key, else of the nearest table around it."""
        while where and where not in self._lines:
            where = where.rpartition("[" if where.endswith("]") else ".")[0]
        return self._lines.get(where, 1)


def checked(where: str, value: Any, parse: Parser) -> Any:
    """A value as its parser reads it.

    Raises:
        WorkloadError: It is wrong; the text begins with `where`.
    """
    try:
        return parse(value)
    except ValueError as err:
        raise WorkloadError(f"{where} {value!r}: {err}") from None


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
            table = _numbered(_path(header[2]), arrays)
            if header[1]:
                arrays[table] = arrays.get(table, -1) + 1
                lines.setdefault(table, number)
                table = f"{table}[{arrays[table]}]"
            lines[table] = number
        elif key := _KEY.match(line):
            lines[f"{table}.{_path(key[1])}" if table else _path(key[1])] = number
    return lines


def _numbered(table: str, arrays: dict[str, int]) -> str:
    """A header's path with the number of each array's last table: programs.phases is programs[2].phases."""
    inner, _, rest = table.partition(".")
    while rest:
        if inner in arrays:
            inner += f"[{arrays[inner]}]"
        name, _, rest = rest.partition(".")
        inner += "." + name
    return inner


def _path(key: str) -> str:
    return re.sub(r"\s*\.\s*", ".", key).replace('"', "").replace("'", "")


def near(name: str, names: Iterable[str]) -> str:
    """A question after the most similar of some names; empty if none is similar."""
    found = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def _default_name(trace: Path) -> str:
    return trace.stem[:19]


def _syntax_error(path: Path, text: str) -> str:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", text)
    if found is None:
        return f"{path}: not valid TOML: {text}"
    return f"{path}:{found[1]}: not valid TOML: {text[: found.start()]} in column {found[2]}"
