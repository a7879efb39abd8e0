"""The pager core: devices, hysteresis, clusters, verification, errors, files, sysctls, books."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pager_setup import booted, counter, events, finish_writes, get, page, pages, put, put_file, wait

from hardware_sim.disk import BLOCK_SIZE, DeviceQueue
from services.pager.checksum import page_checksums
from services.pager.swap_space import SwapSpace
from services.ports.common import VM_OOM_SWAPZ, Answers, Setting
from services.ports.pager import GetPagesStart, HasPage, ObjectKind, PageRange, PagerBoot, PutRun, SwapDisk, VmPager
from services.runtime.errors import KernelPanic, Reason, Refused
from services.runtime.events import Kind

SWAP, VNODE, DEFAULT = ObjectKind.SWAP, ObjectKind.VNODE, ObjectKind.DEFAULT


def test_hysteresis_of_the_free_space():
    told = []
    space = SwapSpace(on_full=lambda wanted, full: told.append((wanted, full)))
    space.swaponsomething(0, 600, None, DeviceQueue("ssd", 0))
    assert (space.avail, space.full, space.almost_full) == (600, 0, 0)
    taken = [space.getswapspace(1) for _ in range(473)]
    assert (space.avail, space.full, space.almost_full, told) == (127, 0, 1, [(0, 1)])
    space.full = 2
    space.freeswapspace(np.array([], np.int32))
    assert (space.avail, space.full) == (127, 2)
    space.freeswapspace(np.array(taken[:1], np.int32))
    assert (space.avail, space.full, space.almost_full) == (128, 0, 1)
    space.freeswapspace(np.array(taken[1:385], np.int32))
    assert (space.avail, space.almost_full) == (512, 1)
    space.freeswapspace(np.array(taken[385:386], np.int32))
    assert (space.avail, space.almost_full) == (513, 0)
    space.close()


def test_devices_take_turns_and_a_gap_lies_between_them():
    space = SwapSpace(on_full=lambda _wanted, _full: None)
    space.swaponsomething(0, 64, None, DeviceQueue("ssd", 0))
    space.swaponsomething(1, 64, None, DeviceQueue("ssd", 1))
    assert [space.getswapspace(16) for _ in range(4)] == [2, 67, 32, 97]
    assert [device.used for device in space.devices] == [32, 32]
    with pytest.raises(KernelPanic, match="Swapdev not found"):
        space.device_of(64)
    space.close()


def test_a_full_device_is_two_pages_smaller_than_the_kernel_thinks():
    core = booted(swap_pages=20)
    chunks = put(core, 1, 0, *range(20))
    assert [(chunk.first, chunk.count, chunk.status) for chunk in chunks] == [
        (0, 16, VmPager.PEND),
        (16, 4, VmPager.FAIL),
    ]
    assert [chunk.status for chunk in put(core, 2, 0, 1, 2)] == [VmPager.PEND]
    status = core.swap_status()
    assert (status.used, status.avail, status.full, status.almost_full) == (18, 2, 2, 1)
    assert core.check().violations == []


def test_running_full_is_told_once():
    core = booted(swap_pages=600)
    put(core, 1, 0, *range(500))
    put(core, 1, 500, *range(90))
    put(core, 1, 600, *range(16))
    put(core, 1, 700, *range(4))
    told = [(event.outcome, event.subject, event.a) for event in events(core) if event.kind == Kind.SWAP_FULL]
    assert told[:2] == [(1, 0, 120), (2, 16, 10)]
    assert len(told) == 2


def test_without_a_device_nothing_goes_out():
    core = booted(swap_pages=0)
    (chunk,) = put(core, 1, 0, 1, 2)
    assert (chunk.status, chunk.io, chunk.count) == (VmPager.FAIL, 0, 2)
    assert core.swap_status().full == 2


def test_scattered_space_halves_the_cluster_down_to_four():
    core = booted(swap_pages=64)
    put(core, 1, 0, *range(62))
    core.page_unswapped([PageRange(1, first, 4) for first in (2, 8, 14, 20, 26, 34, 40)])
    chunks = put(core, 2, 0, *range(16))
    sizes = [16 >> 2, 12 >> 2, 9 >> 1, 5 >> 1, 3]  # what is left is halved while it is above four
    assert [(chunk.count, chunk.status) for chunk in chunks] == [(size, VmPager.PEND) for size in sizes]


def test_every_pageout_goes_to_a_new_place_and_frees_the_old_one():
    core = booted()
    put(core, 1, 0, *range(8))
    first = core._swap.meta.lookup(1, 0)
    put(core, 1, 0, *range(100, 108))
    assert core._swap.meta.lookup(1, 0) != first
    assert core.swap_status().used == 8
    assert get(core, 1, SWAP, 0, ahead=20) == (0, 8, get(core, 1, SWAP, 0, ahead=7)[2])
    assert get(core, 1, SWAP, 3, behind=2)[2].data == pages(101, 102, 103)


def test_a_stack_goes_out_in_one_write_and_comes_in_with_one_read():
    core = booted()
    put(core, 9, 0, *range(4))
    get(core, 9, SWAP, 0, ahead=3)
    names = ("v_swapout", "v_swappgsout", "v_swapin", "v_swappgsin")
    assert [counter(core, f"vm.stats.vm.{name}") for name in names] == [1, 4, 1, 4]


def test_reads_stop_where_blocks_are_not_adjacent():
    core = booted()
    put(core, 1, 0, 0, 1)
    put(core, 2, 0, 9)
    put(core, 1, 2, 2, 3)
    assert get(core, 1, SWAP, 0, ahead=3)[:2] == (0, 2)
    assert get(core, 1, SWAP, 2, behind=3, ahead=3)[:2] == (2, 2)


def test_has_page_tells_at_most_seven_neighbours():
    core = booted()
    put(core, 1, 5, *range(16))
    assert core.vm_pager_has_page(1, SWAP, 13) == HasPage(True, 7, 7)
    assert core.vm_pager_has_page(1, SWAP, 5) == HasPage(True, 0, 7)
    assert core.vm_pager_has_page(1, SWAP, 20) == HasPage(True, 7, 0)
    assert core.vm_pager_has_page(1, SWAP, 21) == core.vm_pager_has_page(1, DEFAULT, 5) == HasPage()


def test_conversion_is_reported_once_even_where_no_space_is_found():
    core = booted(swap_pages=0)
    run = PutRun(1, 0, 1)
    assert [core.put_pages_start([run], page(0), True).runs[0].converted for _ in range(2)] == [True, False]
    core.dealloc([1])
    assert core.put_pages_start([run], page(0), True).runs[0].converted
    assert counter(core, "vmglue.pager.sync_puts") == 3


def test_runs_whose_blocks_are_adjacent_but_not_their_bytes_are_written_apart():
    core = booted(swap_pages=64)
    put(core, 9, 0, *range(62))
    core.page_unswapped([PageRange(9, 30, 6)])
    answer = core.put_pages_start([PutRun(1, 0, 4), PutRun(2, 0, 3), PutRun(3, 0, 2)], pages(*range(9)), False)
    assert [chunk.status for run in answer.runs for chunk in run.chunks] == [VmPager.PEND, VmPager.FAIL, VmPager.PEND]
    wait(core)
    assert get(core, 3, SWAP, 0, ahead=1)[2].data == pages(7, 8)
    assert get(core, 1, SWAP, 0, ahead=3)[2].data == pages(0, 1, 2, 3)


def test_several_runs_share_one_request():
    core = booted()
    runs = [PutRun(1, 10, 2), PutRun(2, 0, 20), PutRun(1, 40, 1)]
    answer = core.put_pages_start(runs, pages(*range(23)), False)
    assert [[(chunk.first, chunk.count) for chunk in run.chunks] for run in answer.runs] == [
        [(10, 2)],
        [(0, 16), (16, 4)],
        [(40, 1)],
    ]
    ios = [chunk.io for run in answer.runs for chunk in run.chunks]
    assert finish_writes(core, ios) == [VmPager.OK] * 4
    assert get(core, 1, SWAP, 40)[2].data == page(22)
    assert get(core, 2, SWAP, 19)[2].data == page(21)


def test_operations_end_one_after_another_and_never_early():
    core = booted()
    chunks = core.put_pages_start([PutRun(1, 0, 40)], pages(*range(40)), False).runs[0].chunks
    dues = [chunk.due_us for chunk in chunks]
    assert dues == sorted(set(dues))
    assert dues[0] > 0
    core._ctx.now_us = dues[1]
    for ios in ([chunks[2].io], [chunks[0].io, chunks[0].io], [99]):
        with pytest.raises(Refused):
            core.put_pages_finish(ios)
    with pytest.raises(Refused):
        core.get_pages_finish([chunks[0].io])
    assert core.put_pages_finish([chunks[0].io, chunks[1].io]).statuses == [VmPager.OK] * 2


@pytest.mark.parametrize("word", [0, 3, 511])
def test_damage_on_the_device_is_never_delivered(word):
    core = booted()
    put(core, 1, 0, 1, 2, 3)
    os.pwrite(core._swap.space.devices[0].file._fd, b"\xff", 3 * BLOCK_SIZE + 8 * word)
    read = get(core, 1, SWAP, 0, ahead=2)[2]
    assert (read.status, read.data) == (VmPager.ERROR, b"")
    assert get(core, 1, SWAP, 2)[2].data == page(3)
    peek = core.peek(1, [0, 1, 2])
    assert peek.present == [True] * 3
    assert [any(peek.stamps[i : i + 48]) for i in (0, 48, 96)] == [True, False, True]
    assert counter(core, "vmglue.pager.checksum_errors") == counter(core, "vmglue.pager.io_errors") == 1
    assert [(e.kind, e.subject, e.a, e.b, e.c) for e in events(core)][-2] == (Kind.SWAP_IO_ERROR, 1, 0, 3, 0)


@given(number=st.integers(0, 1000), at=st.integers(0, 4095), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_the_checksum(number, at, bit):
    flipped = bytearray(page(number))
    flipped[at] ^= 1 << bit
    (whole, damaged) = page_checksums(page(number) + bytes(flipped))
    assert whole != damaged
    assert page_checksums(page(number))[0] == whole


def test_a_block_that_was_reused_while_a_read_was_under_way_is_not_delivered():
    core = booted(swap_pages=4)
    put(core, 1, 0, 1, 2)
    start = core.get_pages_start(1, SWAP, 0, 0, 0, 1, False)
    core.dealloc([1])
    put(core, 2, 0, 3, 4)
    wait(core)
    assert core.get_pages_finish([start.io]).reads[0].status is VmPager.ERROR


def test_scripted_device_errors():
    core = booted()
    put(core, 1, 0, 1, 2)
    core.inject([Answers("disk_read_error", [1]), Answers("disk_write_error", [0, 1])])
    assert get(core, 1, SWAP, 0, ahead=1)[2].status is VmPager.ERROR
    assert get(core, 1, SWAP, 0, ahead=1)[2].data == pages(1, 2)
    chunks = core.put_pages_start([PutRun(2, 0, 20)], pages(*range(20)), False).runs[0].chunks
    assert finish_writes(core, [chunk.io for chunk in chunks]) == [VmPager.OK, VmPager.ERROR]
    assert get(core, 2, SWAP, 15)[2].data == page(15)
    assert get(core, 2, SWAP, 16)[2].status is VmPager.ERROR
    assert core.check().violations == []
    put(core, 2, 16, 1)
    assert get(core, 2, SWAP, 16)[2].data == page(1)
    errors = [(e.subject, e.a, e.b, e.c) for e in events(core) if e.kind == Kind.SWAP_IO_ERROR]
    assert errors == [(1, 0, 2, 0), (2, 16, 4, 1), (2, 16, 4, 0)] or errors == [
        (1, 0, 2, 0),
        (2, 16, 4, 1),
        (2, 16, 1, 0),
    ]


def test_a_host_that_cannot_write_is_a_device_error(monkeypatch):
    core = booted()

    def full(_block, _data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(core._swap.space.devices[0].file, "write", full)
    chunks = core.put_pages_start([PutRun(1, 0, 20)], pages(*range(20)), False).runs[0].chunks
    assert finish_writes(core, [chunk.io for chunk in chunks]) == [VmPager.ERROR] * 2


def test_a_host_that_cannot_read_is_a_device_error():
    core = booted()
    put(core, 1, 0, 1, 2)
    os.ftruncate(core._swap.space.devices[0].file._fd, 0)
    assert get(core, 1, SWAP, 0, ahead=1)[2].status is VmPager.ERROR
    peek = core.peek(1, [1])
    assert (peek.present, any(peek.stamps)) == ([True], False)
    assert (counter(core, "vmglue.pager.io_errors"), counter(core, "vmglue.pager.checksum_errors")) == (1, 0)


def test_metadata_is_limited_and_asks_for_a_kill():
    core = booted(page_count=4)
    assert [chunk.status for chunk in put(core, 1, 31, 1, 2)] == [VmPager.PEND]
    assert core._ctx.upcalls.oom == 0
    assert [chunk.status for chunk in put(core, 1, 64, 3)] == [VmPager.FAIL]
    assert core._ctx.upcalls.oom == VM_OOM_SWAPZ
    assert [chunk.status for chunk in put(core, 1, 0, *range(40))] == [VmPager.PEND] * 3
    assert core.swap_status().meta_blocks == 2


def test_files_are_synthesised_from_name_and_offset():
    core, other = booted(), booted(seed=2)
    sh, ls = core.vnode_open("sh", 20).file, core.vnode_open("ls", 3).file
    assert (sh, ls, core.vnode_open("sh", 10).file) == (1, 2, 1)
    first, count, read = get(core, 0, VNODE, 1, behind=5, ahead=30, file=sh)
    assert (first, count, len(read.data)) == (0, 20, 20 * BLOCK_SIZE)
    words = np.frombuffer(read.data, np.uint64).reshape(20, 512)
    assert read.data[:8] == b"\x7fELF\x02\x01\x01\x09"
    assert not words[:, [3, 511]].any()
    assert len(np.unique(words[1:, 4:511])) == 19 * 507
    assert get(core, 0, VNODE, 7, file=sh)[2].data == read.data[7 * BLOCK_SIZE : 8 * BLOCK_SIZE]
    assert get(core, 0, VNODE, 1, file=ls)[2].data != read.data[BLOCK_SIZE : 2 * BLOCK_SIZE]
    other.vnode_open("ls", 3)
    assert (
        get(other, 0, VNODE, 7, file=other.vnode_open("sh", 20).file)[2].data
        != read.data[7 * BLOCK_SIZE : 8 * BLOCK_SIZE]
    )
    assert (counter(core, "vm.stats.vm.v_vnodein"), counter(core, "vm.stats.vm.v_vnodepgsin")) == (3, 22)


def test_the_end_of_a_file_and_files_that_were_never_opened():
    core = booted()
    file = core.vnode_open("sh", 20).file
    assert core.get_pages_start(0, VNODE, file, 20, 0, 0, False) == GetPagesStart(VmPager.BAD)
    assert core.get_pages_start(1, DEFAULT, 0, 0, 0, 0, False) == GetPagesStart(VmPager.FAIL)
    assert core.vm_pager_has_page(file, VNODE, 18) == HasPage(True, 15, 1)
    assert core.vm_pager_has_page(file, VNODE, 20) == HasPage()
    with pytest.raises(Refused) as refused:
        core.get_pages_start(0, VNODE, 2, 0, 0, 0, False)
    assert refused.value.reason is Reason.UNKNOWN_ID
    assert core.vnode_open("sh", 30).file == file
    assert get(core, 0, VNODE, 25, file=file)[1] == 1
    core.inject([Answers("disk_read_error", [1])])
    assert get(core, 0, VNODE, 0, file=file)[2].status is VmPager.ERROR


def test_pages_of_files_are_written_in_place_beside_those_of_swap():
    core = booted()
    file = core.vnode_open("data", 30).file
    before = get(core, 0, VNODE, 0, ahead=29, file=file)[2].data
    runs = [PutRun(1, 0, 2), PutRun(7, 4, 18, file), PutRun(8, 29, 1, file), PutRun(1, 2, 1)]
    answers = core.put_pages_start(runs, pages(*range(22)), False).runs
    chunks = [[(chunk.first, chunk.count) for chunk in answer.chunks] for answer in answers]
    assert chunks == [[(0, 2)], [(4, 16), (20, 2)], [(29, 1)], [(2, 1)]]
    assert [answer.converted for answer in answers] == [True, False, False, False]
    assert finish_writes(core, [chunk.io for answer in answers for chunk in answer.chunks]) == [VmPager.OK] * 5
    after = get(core, 0, VNODE, 0, ahead=29, file=file)[2].data
    places = [range(4), range(22, 29)]
    kept = [before[p * BLOCK_SIZE : (p + 1) * BLOCK_SIZE] for part in places for p in part]
    assert [after[p * BLOCK_SIZE : (p + 1) * BLOCK_SIZE] for part in places for p in part] == kept
    assert after[4 * BLOCK_SIZE : 22 * BLOCK_SIZE] == pages(*range(2, 20))
    assert after[29 * BLOCK_SIZE :] == page(20)
    assert get(core, 1, SWAP, 0, ahead=2)[2].data[: 2 * BLOCK_SIZE] == pages(0, 1)
    assert (counter(core, "vm.stats.vm.v_vnodeout"), counter(core, "vm.stats.vm.v_vnodepgsout")) == (3, 19)
    assert (counter(core, "vm.stats.vm.v_swapout"), core.swap_status().used) == (2, 3)
    assert next((e.subject, e.a, e.b) for e in events(core) if e.kind == Kind.VNODE_WRITE) == (file, 4, 16)


def test_a_write_that_the_disk_refuses_leaves_the_file_as_it_was():
    core = booted()
    file = core.vnode_open("data", 30).file
    before = get(core, 0, VNODE, 3, file=file)[2].data
    core.inject([Answers("disk_write_error", [1])])
    assert put_file(core, file, 3, 5) == [VmPager.ERROR]
    assert get(core, 0, VNODE, 3, file=file)[2].data == before
    assert put_file(core, file, 3, 5) == [VmPager.OK]
    assert get(core, 0, VNODE, 3, file=file)[2].data == page(5)
    with pytest.raises(Refused, match="pages within the file"):
        put_file(core, file, 29, 1, 2)


def test_sysctls():
    core = booted(swap_pages=256, page_count=32768)
    put(core, 1, 0, 1, 2)
    values = {setting.name: setting.value for setting in core.sysctl_get().settings}
    assert list(values) == sorted(values)
    assert values["vm.swap_total"] == 256 * 4096
    assert (values["vm.nswapdev"], values["vm.dmmax"], values["kern.nswbuf"]) == (1, 32, 256)
    assert (values["vm.swap_info.0.nblks"], values["vm.swap_info.0.used"]) == (256, 2)
    assert values["vm.swap_maxpages"] == 16384 * 32
    assert values["vm.stats.vm.v_swapout"] == 1
    core.sysctl_set(Setting("vm.swap_async_max", 128))
    assert Setting("vm.swap_async_max", 128) in core.sysctl_get().settings
    for name, value, reason in (
        ("vm.swap_async_max", 0, Reason.FIELD_OUT_OF_RANGE),
        ("vm.swap_async_max", 129, Reason.FIELD_OUT_OF_RANGE),
        ("vm.swap_total", 1, Reason.UNKNOWN_SYSCTL),
    ):
        with pytest.raises(Refused) as refused:
            core.sysctl_set(Setting(name, value))
        assert refused.value.reason is reason


@pytest.mark.parametrize(("page_count", "nswbuf"), [(1024, 16), (8192, 124), (32768, 256)])
def test_swap_buffers_follow_from_the_machines_size(page_count, nswbuf):
    core = booted(page_count=page_count)
    assert Setting("kern.nswbuf", nswbuf) in core.sysctl_get().settings


def test_a_request_whose_data_does_not_fit_is_refused():
    core = booted()
    with pytest.raises(Refused, match="2 pages of 4096 bytes"):
        core.put_pages_start([PutRun(1, 0, 2)], page(0), False)
    assert core.digest() == booted().digest()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda swap: swap.meta.build(2, 0, np.array([2], np.int32)), "swap block 2 has two owners"),
        (lambda swap: swap.space.devices[0].blist.free(3, 1), "swap block 3 has an owner and is free"),
        (lambda swap: swap.meta.free(1, 1, 1), "counts 3 blocks in use, 2 have an owner"),
        (lambda swap: setattr(swap.space, "avail", 5), "swap_pager_avail is 5, 253 are not in use"),
        (lambda swap: swap.space.getswapspace(1), "counts 4 blocks in use, 3 have an owner"),
        (lambda swap: swap.meta._counts.__setitem__(0, 9), "metadata block 0 counts 9 pages and has 3"),
        (lambda swap: setattr(swap.meta, "in_use", 4), "1 swap metadata blocks are indexed, 4 are in use"),
    ],
)
def test_check_finds_books_that_do_not_agree(damage, sentence):
    core = booted()
    put(core, 1, 0, 1, 2, 3)
    assert core.check().violations == []
    damage(core._swap)
    assert any(sentence in violation for violation in core.check().violations)


def test_the_digest_sees_contents_metadata_and_operations_under_way():
    def digest(*steps):
        core = booted()
        for step in steps:
            step(core)
        return core.digest().state

    def write(core):
        put(core, 1, 0, 1, 2)

    states = [
        digest(),
        digest(write),
        digest(lambda core: put(core, 1, 0, 1, 3)),
        digest(lambda core: put(core, 2, 0, 1, 2)),
        digest(write, lambda core: core.get_pages_start(1, SWAP, 0, 0, 0, 0, False)),
        digest(lambda core: core.vnode_open("sh", 3)),
        digest(lambda core: put_file(core, core.vnode_open("sh", 3).file, 1, 4)),
        digest(lambda core: put_file(core, core.vnode_open("sh", 3).file, 1, 5)),
        digest(lambda core: os.pwrite(core._swap.space.devices[0].file._fd, b"x", 5), write),
    ]
    assert len(set(states[:8])) == 8
    assert states[8] == states[1]


def test_boot_forgets_everything_and_close_gives_the_file_back(tmp_path):
    path = tmp_path / "swap"
    core = booted(swap_file=path)
    fresh = core.digest()
    put(core, 1, 0, 1)
    core.boot(PagerBoot([SwapDisk(256)], 4096, 1, allow_inject=True))
    assert core.digest() == fresh
    assert path.stat().st_size == 256 * BLOCK_SIZE
    core.close()
    assert not path.exists()


def test_a_swap_file_that_cannot_be_had_is_refused(tmp_path):
    path = tmp_path / "letter"
    path.write_bytes(b"dear")
    with pytest.raises(Refused, match="something other than a disk"):
        booted(swap_file=path)
    with pytest.raises(Refused, match="at least 3 pages"):
        booted(swap_pages=2)


def test_a_refused_write_is_the_pagers_trouble_until_one_succeeds(monkeypatch):
    core = booted()
    put(core, 1, 0, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("hardware_sim.disk.block_file.os.pwrite", full)
        put(core, 1, 1, 1)
    assert core.trouble() == "the swap file: No space left on device"
    assert get(core, 1, SWAP, 0)[2].status is VmPager.OK, "the first page is there"
    assert core.trouble() == "the swap file: No space left on device", "a read says nothing about writes"
    put(core, 1, 2, 1)
    assert core.trouble() == ""


def test_a_refused_read_is_the_pagers_trouble_until_one_succeeds(monkeypatch):
    core = booted()
    put(core, 1, 0, 1)

    def broken(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("hardware_sim.disk.block_file.os.pread", broken)
        get(core, 1, SWAP, 0)
    assert core.trouble() == "the swap file: Input/output error"
    get(core, 1, SWAP, 0)
    assert core.trouble() == ""
