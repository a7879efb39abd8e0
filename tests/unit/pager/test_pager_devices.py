"""The pager on devices of several kinds: what overlaps, what fails, what is refused."""

import pytest
from pager_setup import booted_with, events, get, page, pages, put

from services.ports.common import Setting
from services.ports.pager import DiskFaults, ObjectKind, PutRun, SwapDisk, VmPager
from services.runtime.errors import Reason, Refused
from services.runtime.events import Kind

SWAP = ObjectKind.SWAP
ALWAYS = 1_000_000


def started(core, pages_of_run, sync=False):
    """Ends of the writes that a request of one run comes to."""
    data = pages(*range(pages_of_run))
    return [chunk.due_us for chunk in core.put_pages_start([PutRun(1, 0, pages_of_run)], data, sync).runs[0].chunks]


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_swap_async_max_limits_the_writes_that_overlap(limit):
    core = booted_with([SwapDisk(600, "nvme")])
    core.sysctl_set(Setting("vm.swap_async_max", limit))
    ends = started(core, 16 * 12)
    spans = [(0 if i < limit else sorted(ends[:i])[i - limit], end) for i, end in enumerate(ends)]
    assert all(230 < end - begins < 300 for begins, end in spans)  # 4 + 16 * 16 us, within the jitter
    assert min(started(core, 16, sync=True)) < max(ends)  # whoever waits has other buffers


def test_a_write_gets_its_buffer_once_an_earlier_one_has_ended():
    core = booted_with([SwapDisk(600, "nvme")])
    core.sysctl_set(Setting("vm.swap_async_max", 1))
    (first,) = started(core, 16)
    core._ctx.now_us = first
    assert started(core, 16)[0] - first < 300
    assert core._ios.async_ends_us == [core._ios.pending[core._ios.last].due_us]


def test_writes_to_several_devices_overlap():
    alone, three = (booted_with([SwapDisk(600, "hdd")] * count) for count in (1, 3))
    assert max(started(three, 16 * 3)) < max(started(alone, 16 * 3)) - 3000


def test_devices_of_a_machine_have_latencies_of_their_own():
    core = booted_with([SwapDisk(64)] * 2)
    queues = [device.queue for device in core._swap.space.devices]
    assert queues[0].rng != queues[1].rng


@pytest.mark.parametrize(("chance", "sums"), [(0, 0), (ALWAYS, 1)])
def test_a_device_that_cannot_be_read_says_so(chance, sums):
    core = booted_with([SwapDisk(64, faults=DiskFaults(read_per_million=chance))])
    put(core, 1, 0, 1, 2)
    read = get(core, 1, SWAP, 0, ahead=1)[2]
    assert (read.status, read.data) == ((VmPager.ERROR, b"") if chance else (VmPager.OK, pages(1, 2)))
    assert sum(event.kind == Kind.SWAP_IO_ERROR for event in events(core)) == sums


def test_what_could_not_be_written_goes_elsewhere():
    core = booted_with([SwapDisk(64, faults=DiskFaults(write_per_million=ALWAYS)), SwapDisk(64)])
    chunks = put(core, 1, 0, 7)
    assert core._swap.space.device_of(core._swap.meta.lookup(1, 0)) is core._swap.space.devices[0]
    assert chunks[0].status is VmPager.PEND
    put(core, 1, 0, 7)
    assert core._swap.space.device_of(core._swap.meta.lookup(1, 0)) is core._swap.space.devices[1]
    assert get(core, 1, SWAP, 0)[2].data == page(7)
    assert core.check().violations == []


def test_a_device_that_finds_no_space_is_passed_over():
    core = booted_with([SwapDisk(64, faults=DiskFaults(full_per_million=ALWAYS)), SwapDisk(64)])
    put(core, 1, 0, *range(8))
    assert [device.used for device in core._swap.space.devices] == [0, 8]
    core = booted_with([SwapDisk(600, faults=DiskFaults(full_per_million=ALWAYS))])
    assert [chunk.status for chunk in put(core, 1, 0, 1)] == [VmPager.FAIL]
    assert core.swap_status().full == 2


def test_a_stall_makes_an_operation_end_later():
    stalled = booted_with([SwapDisk(64, faults=DiskFaults(latency_per_million=ALWAYS, latency_us=70_000))])
    assert started(stalled, 4)[0] == started(booted_with([SwapDisk(64)]), 4)[0] + 70_000


def test_the_seed_of_the_faults_decides_which_operations_fail():
    def outcomes(seed):
        core = booted_with([SwapDisk(600, faults=DiskFaults(seed, write_per_million=ALWAYS // 2))])
        put(core, 1, 0, *range(320))
        return [event.a for event in events(core) if event.kind == Kind.SWAP_IO_ERROR]

    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)


@pytest.mark.parametrize(
    ("devices", "field", "reason"),
    [
        ([SwapDisk(64), SwapDisk(2)], "swap_devices[1].pages", Reason.FIELD_OUT_OF_RANGE),
        ([SwapDisk(64, "drum")], "swap_devices[0].kind", Reason.FIELD_OUT_OF_RANGE),
        (
            [SwapDisk(64, faults=DiskFaults(full_per_million=ALWAYS + 1))],
            "swap_devices[0].faults.full_per_million",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        ([SwapDisk(64)] * 17, "swap_devices", Reason.QUOTA),
    ],
)
def test_devices_that_cannot_be_are_refused(devices, field, reason):
    with pytest.raises(Refused) as refused:
        booted_with(devices)
    assert (refused.value.field, refused.value.reason) == (field, reason)


def test_each_device_has_a_file_beside_the_first(tmp_path):
    core = booted_with([SwapDisk(64), SwapDisk(32, "hdd")], swap_file=tmp_path / "swap")
    assert {path.name: path.stat().st_size // 4096 for path in tmp_path.iterdir()} == {"swap": 64, "swap.1": 32}
    core.close()
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_goes_on_with_the_same_devices(tmp_path):
    devices = [SwapDisk(64, "hdd", DiskFaults(5, write_per_million=ALWAYS // 3)), SwapDisk(64, "nvme")]
    first, second = booted_with(devices), booted_with([SwapDisk(9)], swap_file=tmp_path / "swap")
    put(first, 1, 0, *range(40))
    whole = first.checkpoint_save(0)
    second.checkpoint_load(0, whole.size, whole.data)
    second.checkpoint_commit()
    second._ctx.now_us = first._ctx.now_us
    assert put(first, 2, 0, *range(40)) == put(second, 2, 0, *range(40))
    assert first.digest() == second.digest()
