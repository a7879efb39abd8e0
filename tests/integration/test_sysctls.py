"""docs/fidelity.md's table of sysctls: each is there, and takes what its C type and the kernel take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from systems import WIRINGS, start_system

from services.ports.common import Setting
from services.ports.kstack import KstackBoot
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.physmem import PhysmemBoot
from services.ports.scheduler import SchedulerBoot
from services.runtime.errors import Reason, Refused

RANGES = {"int": (-(1 << 31), (1 << 31) - 1), "uint": (0, (1 << 32) - 1), "int, 1 to kern.nswbuf / 2": (1, 8)}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs/fidelity.md").read_text().split("## Sysctls")[1].splitlines()
    if line.startswith("| ") and not line.startswith(("| sysctl", "| ---"))
]
TABLE = {name: row[1:] for row in ROWS for name in row[0].split(", ")}


@pytest.fixture(scope="module", params=WIRINGS)
def ports(request):
    with start_system(request.param) as system:
        kernel = system.kernel
        kernel.ctx.reboot(1000, 0, allow_inject=False)
        kernel.pager.boot(PagerBoot(swap_devices=[SwapDisk(128)], page_count=96))
        kernel.physmem.boot(PhysmemBoot(ram_pages=96))
        kernel.kstack.boot(KstackBoot())
        kernel.scheduler.boot(SchedulerBoot(page_count=96))
        yield kernel.ports()


def read(port):
    return {setting.name: setting.value for setting in port.sysctl_get().settings}


def test_the_table_has_all_of_them_and_no_others(ports):
    for service, port in ports.items():
        listed = {name for name, row in TABLE.items() if service in row[2].split(", ")}
        patterns = [re.compile(re.escape(name).replace(r"\*", r"\w+")) for name in listed]
        found = read(port)
        assert [name for name in found if not any(pattern.fullmatch(name) for pattern in patterns)] == []
        assert {name for name in listed if "*" not in name} <= set(found)


def test_what_can_be_written_takes_its_whole_range_and_nothing_beyond(ports):
    writable = [(name, row) for name, row in TABLE.items() if row[1] == "RW"]
    assert len(writable) == 24
    for name, (type_, _, service) in writable:
        port, (low, high) = ports[service], RANGES[type_]
        before = read(port)
        for value in (low, high):
            port.sysctl_set(Setting(name, value))
            assert read(port)[name] == value
        for value in (low - 1, high + 1):
            with pytest.raises(Refused) as refused:
                port.sysctl_set(Setting(name, value))
            assert (refused.value.reason, refused.value.field) == (Reason.FIELD_OUT_OF_RANGE, "value")
            assert str(low) in refused.value.expected
            assert str(high) in refused.value.expected
        port.sysctl_set(Setting(name, before[name]))
        assert read(port) == before


def test_what_can_only_be_read_is_refused_and_stays(ports):
    for service, port in ports.items():
        writable = {name for name, row in TABLE.items() if row[1] == "RW"}
        before = read(port)
        for name in (set(before) - writable) | {"vm.swap_reserved"}:
            with pytest.raises(Refused) as refused:
                port.sysctl_set(Setting(name, 1))
            assert refused.value.reason is Reason.UNKNOWN_SYSCTL, (service, name)
        assert read(port) == before
