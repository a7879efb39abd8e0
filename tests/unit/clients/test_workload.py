"""Workload files: what is read, and that every mistake is one line with its place and what would be right."""

from pathlib import Path

import pytest

from clients.capture.layout import STACK_ZONE
from clients.trace import PAGE_SHIFT
from clients.workload import (
    ARCHITECTURES,
    Workload,
    WorkloadError,
    check_sysctls,
    find_workload,
    load_workload,
    override,
    shipped_workloads,
)
from hardware_sim.arch import arch
from services.ports.pager import DiskFaults, SwapDisk

GOOD = """\
name = "office"

[machine]
kernel.version = "head-r284275"
cpu.mips = 250
ram = "6 MiB"
swap = "1.5 GiB"
seed = 7

[machine.sysctls]
vm.swap_idle_enabled = 1
"vm.lowmem_period" = 5

[[programs]]
trace = "a.vmtrace"
count = 3
start = "1.5 s"
start_every = "20 ms"

[[programs]]
trace = "sub/b.vmtrace"
name = "daemon"
nice = -5
repeat = 2
sleep_scale = 0.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.vmtrace").touch()
    (tmp_path / "sub" / "b.vmtrace").touch()
    return tmp_path


def load(folder: Path, text: str) -> Workload:
    path = folder / "w.toml"
    path.write_text(text)
    return load_workload(str(path))


def test_a_class_and_a_limit_arrive(folder):
    text = GOOD.replace(
        "nice = -5", 'rtprio = { class = "fifo", priority = 7 }\nrss_limit = "64 KiB"\nstop = "1 s"\ncontinue = "2 s"'
    )
    first, second = load(folder, text).programs
    assert (first.rtprio, first.rss_limit) == (("normal", 0), 0)
    assert (first.stop_us, first.continue_us, second.stop_us, second.continue_us) == (-1, -1, 1_000_000, 2_000_000)
    assert (second.rtprio, second.rss_limit) == (("fifo", 7), 16)


def test_every_key_arrives_in_its_unit(folder):
    workload = load(folder, GOOD)
    machine, (first, second) = workload.machine, workload.programs
    assert (workload.name, machine.mips, machine.ram, machine.swap_bytes, machine.seed) == (
        "office", 250, 6 << 20, 3 << 29, 7,
    )  # fmt: skip
    assert machine.sysctls == {"vm.swap_idle_enabled": 1, "vm.lowmem_period": 5}
    assert (first.name, first.count, first.start_us, first.start_every_us) == ("a", 3, 1_500_000, 20_000)
    assert (second.name, second.nice, second.repeat, second.sleep_scale) == ("daemon", -5, 2, 0.5)
    assert second.trace == (folder / "sub" / "b.vmtrace").resolve()


def test_a_file_without_a_name_or_machine_has_defaults(folder):
    workload = load(folder, '[[programs]]\ntrace = "a.vmtrace"\n')
    assert workload.name == "w"
    assert workload.machine.hz == 1000
    assert workload.machine.stack_swap is True


def test_build_options_arrive_one_by_one_or_as_a_table(folder):
    table = "KSTACK_PAGES = 40, KSTACK_GUARD_PAGES = 0, KSTACK_MAX_PAGES = 64, NO_SWAPPING = true, INVARIANTS = false"
    text = GOOD.replace("cpu.mips", f"kernel.options = {{ {table} }}\ncpu.mips", 1)
    machine = load(folder, text).machine
    assert (machine.kstack_pages, machine.kstack_guard_pages, machine.kstack_max_pages) == (40, 0, 64)
    assert (machine.no_swapping, machine.invariants) == (True, False)
    text = GOOD.replace(
        "cpu.mips", "kernel.options.SWAP_DEBUG = true\nkernel.options.KSTACK_USAGE_PROF = false\ncpu.mips", 1
    )
    machine = load(folder, text).machine
    assert (machine.swap_debug, machine.kstack_usage_prof, machine.kstack_pages) == (True, False, 0)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("KSTACK_PAGES = 0", "machine.kernel.options.KSTACK_PAGES 0: expected a whole number from 1 to 256"),
        ("KSTACK_GUARD_PAGES = -1", "KSTACK_GUARD_PAGES -1: expected a whole number from 0 to 256"),
        ("KSTACK_MAX_PAGES = 257", "KSTACK_MAX_PAGES 257: expected a whole number from 1 to 256"),
        ("KSTACK_PAGES = 33", "KSTACK_PAGES: KSTACK_PAGES is 33; expected at most KSTACK_MAX_PAGES, 32"),
        ("KSTACK_MAX_PAGES = 3", "KSTACK_MAX_PAGES: KSTACK_PAGES is 4; expected at most KSTACK_MAX_PAGES, 3"),
        ("NO_SWAPPING = 1", "NO_SWAPPING 1: expected true or false"),
        ("INVARIANT = true", "unknown key; did you mean 'kernel.options.INVARIANTS'?"),
    ],
)
def test_a_wrong_build_option_is_named_with_its_line(folder, option, says):
    with pytest.raises(WorkloadError) as error:
        load(folder, GOOD.replace("cpu.mips", f"kernel.options.{option}\ncpu.mips", 1))
    assert str(error.value).startswith(f"{folder}/w.toml:5: ")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("ram =", "rma =", 6, "machine.rma: unknown key; did you mean 'ram'?"),
        ("cpu.mips", "cpu.mip", 5, "machine.cpu.mip: unknown key; did you mean 'cpu.mips'?"),
        ("count = 3", "cuont = 3", 16, "programs[0].cuont: unknown key; did you mean 'count'?"),
        ("[machine]", "[machin]", 3, "machin: unknown key; did you mean 'machine'?"),
        ('"6 MiB"', '"6 MB"', 6, "machine.ram '6 MB': expected a size such as \"24 MiB\""),
        ('"6 MiB"', '"5 KiB"', 6, "expected whole pages from 1 MiB to 128 GiB"),
        ("seed = 7", "seed = -7", 8, "machine.seed -7: expected a whole number from 0 to"),
        ("count = 3", "count = true", 16, "programs[0].count True: expected a whole number from 1 to 10000"),
        ("nice = -5", "nice = 21", 23, "programs[1].nice 21: expected a whole number from -20 to 20"),
        ("nice = -5", 'rtprio = "idle"', 23, "programs[1].rtprio 'idle': expected a table such as { class ="),
        ("nice = -5", 'rtprio = { class = "ilde" }', 23, "did you mean 'idle'?"),
        ("nice = -5", 'rtprio = { class = "idle", priority = 32 }', 23, "expected a whole number from 0 to 31"),
        ("nice = -5", 'rss_limit = "1 B"', 23, "programs[1].rss_limit '1 B': expected whole pages from 4 KiB"),
        ('"1.5 s"', '"soon"', 17, "programs[0].start 'soon': expected a duration such as \"1.5 s\""),
        ("head-r284275", "head-r284276", 4, "did you mean 'head-r284275'?"),
        ("vm.swap_idle_enabled = 1", "vm.swap_idle_enabled = 1.5", 11, "machine.sysctls.vm.swap_idle_enabled 1.5:"),
        ('"vm.lowmem_period" = 5', "period = 5", 12, "machine.sysctls.period: expected a sysctl such as"),
        ('"a.vmtrace"', '"c.vmtrace"', 15, "programs[0].trace 'c.vmtrace': no such file here"),
        ('"a.vmtrace"', '"../a.vmtrace"', 15, "expected a trace in the workload's folder"),
        ('trace = "a.vmtrace"', "", 14, "programs[0]: the key 'trace' is missing"),
        ("[[programs]]\ntrace", "[[programs]\ntrace", 14, "not valid TOML"),
    ],
)
def test_a_mistake_is_one_line_with_its_place_and_the_remedy(folder, old, new, line, says):
    assert old in GOOD
    with pytest.raises(WorkloadError) as error:
        load(folder, GOOD.replace(old, new, 1))
    text = str(error.value)
    assert text.startswith(f"{folder}/w.toml:{line}: ")
    assert says in text
    assert "\n" not in text


DEVICES = """swap = [
  { kind = "hdd", size = "64 MiB", faults = { seed = 3, read = 1, write = 2, latency = 4, stall = "50 ms", full = 5 } },
  { size = "12 KiB" },
]"""


def test_swap_is_a_size_or_devices(folder):
    machine = load(folder, GOOD.replace('swap = "1.5 GiB"', DEVICES)).machine
    assert machine.swap == (SwapDisk(16384, "hdd", DiskFaults(3, 1, 2, 4, 50_000, 5)), SwapDisk(3, "ssd"))
    assert machine.swap_bytes == (64 << 20) + 12288
    assert load(folder, GOOD.replace("1.5 GiB", "0 B")).machine.swap == ()
    assert load(folder, GOOD).machine.swap == (SwapDisk(3 << 17),)


@pytest.mark.parametrize(
    ("swap", "says"),
    [
        ('"8 KiB"', "machine.swap '8 KiB': expected 0 B, or at least 12 KiB"),
        ("[{}]", "machine.swap[0]: the key 'size' is missing"),
        ('[{ size = "8 KiB" }]', "machine.swap[0].size '8 KiB': expected whole pages from 12 KiB"),
        ('[{ size = "1 MiB", kind = "sdd" }]', "machine.swap[0].kind 'sdd': expected one of ssd, hdd, nvme, network;"),
        ('[{ size = "1 MiB", faults.read = 1000001 }]', "faults.read 1000001: expected a whole number from 0 to"),
        ('[{ size = "1 MiB", faults.reed = 1 }]', "machine.swap[0].faults.reed: unknown key; did you mean"),
        (f"[{'{}, ' * 17}]", "machine.swap: 17 devices; expected at most 16"),
    ],
)
def test_a_wrong_swap_device_is_named(folder, swap, says):
    with pytest.raises(WorkloadError) as error:
        load(folder, GOOD.replace('"1.5 GiB"', swap))
    assert str(error.value).startswith(f"{folder}/w.toml:7: ")
    assert says in str(error.value)


def test_a_workload_needs_a_program(folder):
    with pytest.raises(WorkloadError, match=r"programs: expected at least one \[\[programs\]\] table"):
        load(folder, "[machine]\n")


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(WorkloadError, match=r"no shipped workload has that name.*tiny"):
        find_workload("tyni")
    with pytest.raises(WorkloadError, match=r"nowhere/x\.toml: no such file"):
        find_workload("nowhere/x.toml")


@pytest.mark.parametrize("name", shipped_workloads())
def test_shipped_workloads_are_right(name):
    workload = load_workload(name)
    assert workload.name == name
    assert all(program.phases or program.trace.is_file() for program in workload.programs)


def test_options_replace_parts_of_the_machine(folder):
    before = load(folder, GOOD)
    after = override(before, ram="8 MiB", seed=9, sysctls=["vm.lowmem_period=3", "vm.max_launder=0x10"])
    assert (after.machine.ram, after.machine.swap_bytes, after.machine.seed) == (8 << 20, 3 << 29, 9)
    assert after.machine.sysctls == {"vm.swap_idle_enabled": 1, "vm.lowmem_period": 3, "vm.max_launder": 16}
    assert before.machine.seed == 7
    assert override(before) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ram": "8"}, "--ram '8': expected a size"),
        ({"seed": -1}, "--seed -1: expected a whole number"),
        ({"sysctls": ["vm.max_launder"]}, "--set vm.max_launder: expected NAME=VALUE"),
        ({"sysctls": ["vm.max_launder=many"]}, "--set vm.max_launder 'many': expected a whole number"),
    ],
)
def test_a_wrong_option_is_named(folder, options, says):
    with pytest.raises(WorkloadError) as error:
        override(load(folder, GOOD), **options)
    assert str(error.value).startswith(says)


def test_an_unknown_sysctl_is_told_by_line_or_option(folder):
    workload = load(folder, GOOD)
    known = ["vm.swap_idle_enabled", "vm.lowmem_perio"]
    with pytest.raises(WorkloadError, match=r"w\.toml:12: .* vm\.lowmem_period: no such sysctl; did you mean"):
        check_sysctls(workload, known)
    with pytest.raises(WorkloadError, match=r"^--set vm\.lowmem_period: no such sysctl"):
        check_sysctls(override(workload, sysctls=["vm.lowmem_period=1"]), known)
    check_sysctls(workload, [*known, "vm.lowmem_period"])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_captured_addresses_fit_the_architectures(name):
    assert arch(name).page_shift == PAGE_SHIFT
    assert arch(name).user_max >= STACK_ZONE[1]
