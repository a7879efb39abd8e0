"""The core as a whole: boot, ids, image pages, sysctls, digests, events, refusals."""

import pytest
from map_side import BASE, EXEC, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from services.physmem.core import PhysmemCore
from services.ports.common import Answers, Setting, Status, Stop
from services.ports.pager import VmPager
from services.ports.physmem import HeldPage, KernReturn, MapOp, MapOpKind, PhysmemBoot, PhysmemPort, RssLimit, SwapStack
from services.runtime.errors import KernelPanic, Reason, Refused
from services.runtime.events import Kind, unpack


def events(side):
    return [Kind(event.kind) for event in unpack(side.core.events(0, 1000).records)]


def test_every_method_of_the_port_is_there():
    methods = [name for name, value in vars(PhysmemPort).items() if callable(value) and not name.startswith("_")]
    assert len(methods) > 30
    assert [name for name in methods if not callable(getattr(PhysmemCore, name, None))] == []


@pytest.mark.parametrize(
    ("field", "config"),
    [
        ("arch", PhysmemBoot(ram_pages=64, arch="vax")),
        ("ram_pages", PhysmemBoot(ram_pages=0)),
        ("mips", PhysmemBoot(ram_pages=64, mips=0)),
    ],
)
def test_a_machine_that_cannot_be_is_refused(field, config):
    side = MapSide()
    with pytest.raises(Refused) as refused:
        side.core.boot(config)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_OUT_OF_RANGE, field)


def test_booting_again_drops_everything():
    side = MapSide()
    fresh = side.core.digest()
    space = side.space(4)
    side.run(space, runs(record(FIRST, STORE)))
    assert side.core.digest() != fresh
    side.core.boot(PhysmemBoot(ram_pages=1024, seed=7, allow_inject=True))
    assert side.core.digest() == fresh
    with pytest.raises(Refused):
        side.core.vmspace_info([space])


def test_figures_of_an_address_space():
    side = MapSide()
    space = side.space(10)
    side.run(space, runs(record(FIRST, STORE), record(FIRST + 3, LOAD)))
    side.core.vmspace_ref(space)
    (info,) = side.core.vmspace_info([space]).spaces
    assert (info.vmspace, info.refcnt, info.resident, info.entries, info.size_pages) == (space, 2, 2, 1, 10)
    side.core.vmspace_free([space])
    assert side.core.vmspace_info([space]).spaces[0].refcnt == 1
    with pytest.raises(Refused):
        side.core.vmspace_free([space, space])
    side.core.vmspace_free([space])
    with pytest.raises(Refused) as refused:
        side.core.access(space, b"", 0, 1, 0, 0)
    assert (refused.value.reason, refused.value.value) == (Reason.UNKNOWN_ID, space)


def hold(side, file="prog", pages=4, offset=0, op=0):
    return side.core.vm_imgact_map_page(file, pages, offset, 3, op)


def test_an_image_page_is_read_held_and_mapped():
    side = MapSide()
    answer = hold(side, offset=PAGE + 100)
    assert (answer.status, answer.suspension.wmesg, answer.pins) == (Status.SUSPENDED, "vnread", 3)
    side.complete()
    answer = hold(side, offset=PAGE + 100, op=answer.suspension.op)
    m = side.vm.objects[side.vm.files["prog"]].resident[1]
    assert (answer.mapping, answer.pindex, answer.pins, answer.header) == (1, 1, 4, side.vm.ram.read(m, 0, 64))
    assert (side.vm.pages.hold_count[m], side.vm.pages.queue[m]) == (1, 1)
    assert hold(side, offset=PAGE).mapping == 2
    assert side.vm.pages.hold_count[m] == 2
    assert side.core.vm_imgact_unmap_page(1, 4).pins == 3
    assert side.core.vm_imgact_unmap_page(2, 3).pins == 2
    assert side.vm.pages.hold_count[m] == 0
    with pytest.raises(Refused):
        side.core.vm_imgact_unmap_page(1, 2)
    assert side.core.check().violations == []


def test_an_image_page_that_is_not_there_gives_null_and_no_pin():
    side = MapSide()
    answer = hold(side, pages=2, offset=2 * PAGE)
    assert (answer.status, answer.mapping, answer.pins) == (Status.DONE, 0, 3)
    assert side.vm.cnt.v_free_count == side.vm.pages.count
    side.pager.broken.add((1, 1))
    answer = hold(side, pages=2, offset=PAGE)
    side.complete()
    assert hold(side, pages=2, offset=PAGE, op=answer.suspension.op).mapping == 0
    assert side.vm.cnt.v_free_count == side.vm.pages.count


def test_image_pages_are_held_one_after_the_other_and_given_back():
    side = MapSide()
    offsets = [PAGE + 100, 9 * PAGE, PAGE]
    first = side.core.vm_imgact_hold_page("prog", 4, offsets, 0)
    assert (first.status, first.suspension.wmesg, first.pages) == (Status.SUSPENDED, "vnread", [])
    side.complete()
    done = side.core.vm_imgact_hold_page("", 0, [], first.suspension.op)
    m = side.vm.objects[side.vm.files["prog"]].resident[1]
    assert (done.status, done.pages) == (Status.DONE, [HeldPage(m, 1), HeldPage(-1, 9), HeldPage(m, 1)])
    assert [(request.first, request.result) for request in done.page_requests] == [(1, VmPager.OK), (9, VmPager.BAD)]
    assert (side.vm.pages.hold_count[m], side.vm.pages.queue[m]) == (2, 1)
    assert side.vm.sf_bufs == {}
    assert side.core.check().violations == []
    side.core.vm_page_unhold([m, m])
    assert side.vm.pages.hold_count[m] == 0
    with pytest.raises(KernelPanic, match="vm_page_unhold: hold count < 0!!!"):
        side.core.vm_page_unhold([m])


def test_a_page_that_does_not_exist_is_not_unheld_nor_any_before_it():
    side = MapSide()
    sleep = side.core.vm_imgact_hold_page("prog", 4, [0], 0).suspension
    side.complete()
    (held,) = side.core.vm_imgact_hold_page("prog", 4, [0], sleep.op).pages
    for wrong in (side.vm.pages.count, -1):
        with pytest.raises(Refused) as refused:
            side.core.vm_page_unhold([held.page, wrong])
        assert (refused.value.reason, refused.value.value) == (Reason.UNKNOWN_ID, wrong)
    assert side.vm.pages.hold_count[held.page] == 1


def test_an_image_page_that_is_being_read_is_waited_for():
    side = MapSide()
    first, second = hold(side), hold(side)
    assert (second.status, second.suspension.wmesg, second.suspension.channel) == (
        Status.SUSPENDED,
        "pgrbwt",
        first.suspension.channel,
    )
    side.complete()
    assert hold(side, op=first.suspension.op).mapping == 1
    assert hold(side, op=second.suspension.op).mapping == 2
    assert side.core.check().violations == []


def test_scripted_pager_may_lose_the_image_page():
    side = MapSide()
    lost = 1 << 42
    side.core.inject([Answers("vm_pager_get_pages", [lost, lost | 4, 4])])
    assert [hold(side, offset=i * PAGE).mapping for i in range(3)] == [0, 0, 0]
    assert side.vm.objects[1].resident == {}


def test_where_memory_is_not_mapped_an_image_page_takes_kernel_address_space():
    side = MapSide(arch="i386")
    answer = hold(side)
    side.complete()
    answer = hold(side, op=answer.suspension.op)
    assert side.vm.arena.in_use == PAGE
    side.core.vm_imgact_unmap_page(answer.mapping, 1)
    assert side.vm.arena.in_use == PAGE, "its place in the pool"
    assert side.core.check().violations == []


def test_an_image_page_and_a_mapping_of_the_file_are_the_same_page():
    side = MapSide()
    space = side.space()
    side.map(space, 4, prot=5, file="prog", file_pages=4)
    side.run(space, runs(record(FIRST + 2, EXEC)))
    assert hold(side, offset=2 * PAGE).mapping == 1


def test_sysctls_have_the_c_types_ranges():
    side = MapSide()
    settings = {entry.name: entry.value for entry in side.core.sysctl_get().settings}
    assert settings["vm.v_free_min"] == side.vm.cnt.v_free_min
    assert settings["vm.min_kernel_address"] == side.vm.arch.kernel_min - (1 << 64)
    assert settings["vm.stats.vm.v_page_count"] == 1024
    assert list(settings) == sorted(settings)
    side.core.sysctl_set(Setting("vm.v_free_min", 77))
    assert side.vm.cnt.v_free_min == 77
    for name, value, reason in (
        ("vm.max_launder", 1 << 31, Reason.FIELD_OUT_OF_RANGE),
        ("vm.v_free_min", -1, Reason.FIELD_OUT_OF_RANGE),
        ("vm.pageout_lock_miss", 1, Reason.UNKNOWN_SYSCTL),
        ("vm.stats.vm.v_page_count", 1, Reason.UNKNOWN_SYSCTL),
        ("vm.nonsense", 1, Reason.UNKNOWN_SYSCTL),
    ):
        with pytest.raises(Refused) as refused:
            side.core.sysctl_set(Setting(name, value))
        assert refused.value.reason is reason
    assert side.core.counters().names == sorted(side.ctx.counters)


@pytest.mark.parametrize(
    "call",
    [
        lambda core: core.vmspace_fork(9),
        lambda core: core.vmspace_ref(9),
        lambda core: core.vmspace_info([9]),
        lambda core: core.map_ops(9, [], 0),
        lambda core: core.map_ops(0, [], 9),
        lambda core: core.useracc(9, []),
        lambda core: core.vslock(9, 0, 0, 0),
        lambda core: core.vmspace_stamps(9),
        lambda core: core.vm_map_trylock([9]),
        lambda core: core.complete_io([9]),
        lambda core: core.stack_create([4], 9),
        lambda core: core.stack_swapin([], 9),
        lambda core: core.lose_page(9, 0),
    ],
)
def test_unknown_ids_are_not_found(call):
    side = MapSide()
    with pytest.raises(Refused) as refused:
        call(side.core)
    assert (refused.value.reason, refused.value.value) in ((Reason.UNKNOWN_ID, 9), (Reason.UNKNOWN_ID, 0))


def test_faults_are_played_only_where_they_are_allowed():
    side = MapSide()
    side.core.boot(PhysmemBoot(ram_pages=64))
    for call in (lambda: side.core.lose_page(1, 0), lambda: side.core.inject([Answers("kva_alloc", [0])])):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason is Reason.INJECTION_REFUSED


def test_records_that_are_none_are_refused():
    side = MapSide()
    space = side.space(1)
    for data, start in ((b"1234567", 0), (runs(record(FIRST, LOAD)), 2)):
        with pytest.raises(Refused):
            side.core.access(space, data, start, 1, 0, 0)
    assert side.access(space, b"").outcome.stop is Stop.END


def test_every_decision_is_an_event_at_its_virtual_time():
    side = MapSide()
    space = side.space(4)
    side.now_us = 1000
    data = runs(record(FIRST, STORE, instructions=2000), record(FIRST + 1, STORE))
    side.run(space, data)
    first, second = unpack(side.core.events(0, 10).records)
    assert (first.time_us, second.time_us - first.time_us) == (1000, 14 + 20)
    assert (first.subject, first.a, first.c) == (space, BASE, 0)
    child = side.fork(space)
    side.run(child, runs(record(FIRST, STORE)))
    assert side.access(space, runs(record(1, LOAD))).outcome.kern_error == KernReturn.INVALID_ADDRESS
    side.core.vslock(space, BASE, PAGE, 0)
    side.core.vsunlock(space, BASE, PAGE)
    side.core.vmspace_free([child])
    assert events(side)[2:] == [
        Kind.SPACE_FORK, Kind.FAULT_COW, Kind.FAULT_ERROR, Kind.FAULT_COW, Kind.VSLOCK, Kind.VSUNLOCK, Kind.SPACE_FREE,
    ]  # fmt: skip


def test_same_calls_same_digest():
    def played(stores):
        side = MapSide(pages=140)
        space = side.space(100)
        side.run(space, runs(*[record(FIRST + i * 3 % 100, STORE) for i in range(stores)]))
        return side.core.digest()

    assert played(200) == played(200)
    assert played(200) != played(201)


def test_check_finds_what_is_wrong():
    side = MapSide()
    space = side.space(4)
    side.run(space, runs(record(FIRST, STORE)))
    map_, obj = side.vm.space_map(space), side.vm.objects[1]
    for break_it, mend, said in (
        (lambda: setattr(obj, "ref_count", 2), lambda: setattr(obj, "ref_count", 1), "ref_count 2"),
        (
            lambda: setattr(map_.entries[0], "wired_count", 1),
            lambda: setattr(map_.entries[0], "wired_count", 0),
            "wire_count",
        ),
        (
            lambda: setattr(map_.entries[0], "end", BASE),
            lambda: setattr(map_.entries[0], "end", BASE + 4 * PAGE),
            "is empty",
        ),
        (lambda: map_.starts.append(0), lambda: map_.starts.pop(), "index of starts"),
        (
            lambda: setattr(map_.entries[0], "object", 4711),
            lambda: setattr(map_.entries[0], "object", 1),
            "refers to object 4711, which is gone",
        ),
        (
            lambda: setattr(map_.entries[0], "wired_count", -1),
            lambda: setattr(map_.entries[0], "wired_count", 0),
            "has wired_count -1",
        ),
        (
            lambda: side.vm.arena.spans.update({0: PAGE}),
            lambda: side.vm.arena.spans.pop(0),
            "segments do not add up to the spans",
        ),
        (lambda: setattr(side.vm.arena, "in_use", 1), lambda: setattr(side.vm.arena, "in_use", 0), "1 bytes in use"),
    ):
        assert side.core.check().violations == []
        break_it()
        assert said in " ".join(side.core.check().violations)
        mend()


def test_wait_for_memory_asks_for_the_page_daemon():
    side = MapSide()
    sleep = side.core.vm_wait()
    assert (sleep.channel, sleep.priority, sleep.wmesg) == ("v_free_count", 84, "vmwait")
    assert side.settle().pagedaemon_wanted
    assert side.core.pageout_wait_test().needed is False
    assert side.settle().wakeups == ["v_free_count"]


def test_resident_set_limit_is_left_alone_while_the_map_is_locked():
    side = MapSide()
    space = side.space(20)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(20)]))
    side.core.vm_map_trylock([space])
    side.core.map_deactivate([RssLimit(space, 0)])
    assert side.core.vmspace_info([space]).spaces[0].resident == 20
    side.core.vm_map_unlock([space])
    side.core.map_deactivate([RssLimit(space, 0)])
    assert side.core.vmspace_info([space]).spaces[0].resident == 0
    side.run(space, runs(*[record(FIRST + i, LOAD) for i in range(20)]))
    side.verify(space)


def test_a_stack_free_of_a_wrong_kind_of_state_is_a_panic_not_a_repair():
    side = MapSide()
    stack = side.core.stack_create([2], 0).stacks[0].stack
    side.core.stack_swapout([SwapStack(stack, b"", 1)])
    with pytest.raises(KernelPanic, match="vm_page_unwire: page's wire count is zero"):
        side.core.stack_destroy([stack])


def test_insert_kinds_reach_the_map():
    side = MapSide()
    space = side.space(4)
    ops = [
        MapOp(kind, BASE, PAGE, prot=1)
        for kind in (MapOpKind.WIRE, MapOpKind.PROTECT, MapOpKind.UNWIRE, MapOpKind.REMOVE)
    ]
    assert side.core.map_ops(space, ops, 0).results == [KernReturn.SUCCESS] * 4
    assert side.core.map_ops(space, ops[2:], 0).results == [KernReturn.INVALID_ADDRESS, KernReturn.SUCCESS]
