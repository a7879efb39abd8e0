"""The kstack core beyond the conformance cases: kernel memory, swapping, suspended requests, refusals, inspection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kstack_driver import booted

from services.kstack.core import KstackCore
from services.ports.common import Answers, Setting, Status
from services.ports.kstack import KstackBoot, StackSample, ThreadOnStack, ThreadPcb, ThreadStack
from services.ports.physmem import KmemRange, KmemWrite
from services.runtime.context import Context
from services.runtime.errors import KernelPanic, Reason, Refused
from services.runtime.events import Kind, unpack


def kinds(core):
    return [event.kind for event in unpack(core.events(0, 1000).records)]


def threads(*tids, pages=0):
    return [ThreadStack(tid, pages) for tid in tids]


def counter(core, name):
    values = core.counters()
    return dict(zip(values.names, values.values, strict=True))[name]


def test_the_link_record_lies_at_the_base_of_the_stack_in_kernel_memory():
    core, memory = booted()
    first, second = core.vm_thread_new(threads(1, 2), 0).stacks
    core.vm_thread_dispose([1, 2])
    records = memory.kmem_read([KmemRange(second.td_kstack, 16), KmemRange(first.td_kstack, 16)]).data
    assert int.from_bytes(records[0][8:], "little") == first.td_kstack
    assert int.from_bytes(records[1][8:], "little") == 0
    objects = {state.stack: state.obj for state in core.stack_states(False).stacks}
    assert [int.from_bytes(record[:8], "little") for record in records] == [objects[2], objects[1]]


def test_a_thousand_new_threads_take_one_call_below_and_reuse_stale_contents():
    core, memory = booted()
    core.sysctl_set(Setting("vm.kstack_cache_size", 5000))
    new = core.vm_thread_new(threads(*range(1, 1001)), 0)
    assert memory.calls == ["stack_create"]
    memory.kmem_write([KmemWrite(new.stacks[-1].td_kstack + 100, b"stale")])
    core.vm_thread_dispose(list(range(1, 1001)))
    assert memory.calls.count("kmem_write") == 2
    again = core.vm_thread_new(threads(2001), 0).stacks[0]
    assert (again.stack, again.cached, again.kva_bytes) == (1000, True, 0)
    assert memory.kmem_read([KmemRange(again.td_kstack + 100, 5)]).data == [b"stale"]
    assert counter(core, "vmglue.kstack.peak") == counter(core, "vm.kstacks") == 1000
    assert counter(core, "vmglue.kstack.cache_hits") == 1


def test_damage_to_the_list_in_kernel_memory_is_found():
    core, memory = booted()
    new = core.vm_thread_new(threads(1), 0).stacks[0]
    core.vm_thread_dispose([1])
    assert core.check().violations == []
    memory.kmem_write([KmemWrite(new.td_kstack + 8, b"\x10")])
    assert "cache entry of stack 1" in core.check().violations[0]
    with pytest.raises(KernelPanic, match="entry of stack 1 is damaged"):
        core.vm_thread_new(threads(2), 0)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda state: setattr(state, "kstacks", 7), "vm.kstacks is 7; 1 stacks are in use, 1 cached"),
        (lambda state: state.threads.pop(2), "neither in use nor cached"),
        (lambda state: setattr(state.threads[2], "tid", 9), "said to be of thread 9"),
        (lambda state: setattr(state.stacks[1], "pages", 2), "cached stack 1 has 2 pages"),
    ],
)
def test_check_finds_books_that_do_not_agree(damage, sentence):
    core, _ = booted()
    core.vm_thread_new(threads(1, 2), 0)
    core.vm_thread_dispose([1])
    assert core.check().violations == []
    damage(core._state)
    assert any(sentence in violation for violation in core.check().violations)


def test_cached_stacks_that_a_sleeping_request_took_survive_a_drain():
    core, memory = booted()
    core.vm_thread_new(threads(1, 2), 0)
    core.vm_thread_dispose([1, 2])
    memory.free_pages = 1
    asleep = core.vm_thread_new([*threads(11, pages=2), *threads(12)], 0)
    assert (asleep.status, asleep.stacks, asleep.kstacks, asleep.cache_length) == (Status.SUSPENDED, [], 3, 1)
    drained = core.vm_thread_stack_lowmem()
    assert (drained.freed, drained.kstacks) == ([1], 2)
    with pytest.raises(Refused, match="returned"):
        core.vm_thread_dispose([11])
    awake = core.vm_thread_new([], asleep.suspension.op)
    assert [(new.stack, new.cached) for new in awake.stacks] == [(3, False), (2, True)]
    assert core.check().violations == []
    with pytest.raises(Refused) as refused:
        core.vm_thread_new([], asleep.suspension.op)
    assert refused.value.reason is Reason.UNKNOWN_ID


def test_a_drain_during_a_dispose_finds_what_was_cached_before():
    core, _ = booted()
    core.vm_thread_new(threads(1, 2), 0)
    core.vm_thread_dispose([1])
    points = []

    def preempt(point):
        points.append(point)
        if point == "vm_thread_dispose:451":
            core.vm_thread_stack_lowmem()

    core._ctx.env.preempt = preempt
    core.vm_thread_dispose([2])
    assert points == ["vm_thread_dispose:451", "vm_thread_stack_lowmem:471", "vm_thread_stack_dispose:417"]
    assert core.stack_states(False).cache == [2]
    assert core.check().violations == []


def test_a_drain_in_the_middle_of_a_batch_finds_the_records_of_the_stacks_before():
    core, _ = booted()
    core.vm_thread_new(threads(1, 2, 3), 0)
    drained = []

    def preempt(point):
        if point == "vm_thread_dispose:451" and len(core.stack_states(False).cache) == 2:
            drained.append(core.vm_thread_stack_lowmem().freed)

    core._ctx.env.preempt, core._ctx.env.preempts = preempt, True
    core.vm_thread_dispose([1, 2, 3])
    assert drained == [[2, 1]]
    assert core.stack_states(False).cache == [3]
    assert core.check().violations == []


def test_registers_travel_through_the_stack_and_the_swap_device():
    core, memory = booted()
    core.vm_thread_new(threads(1, 2), 0)
    saved = [ThreadPcb(tid, 100 + tid, bytes([tid]) * 64) for tid in (1, 2)]
    core.vm_thread_swapout(saved)
    assert memory.calls.count("stack_swapout") == 1
    memory.evict(1)
    memory.swapin_sleeps = 2
    first = core.vm_thread_swapin(saved, 0)
    assert (first.status, first.pcbs, first.suspension.wmesg) == (Status.SUSPENDED, [], "swread")
    second = core.vm_thread_swapin([], first.suspension.op)
    assert second.suspension == first.suspension
    done = core.vm_thread_swapin([], first.suspension.op)
    assert (done.status, done.pcbs) == (Status.DONE, [thread.pcb for thread in saved])
    assert [(r.stack, r.first, r.count) for r in done.page_requests] == [(0, 0, 4)]
    assert kinds(core)[-4:] == [Kind.KSTACK_SWAPOUT] * 2 + [Kind.KSTACK_SWAPIN] * 2
    assert [event.c for event in unpack(core.events(0, 1000).records)[-2:]] == [1, 0]


def test_panics_of_the_page_work_are_answers():
    core, memory = booted()
    core.vm_thread_new(threads(1, 2), 0)
    core.vm_thread_swapout([ThreadPcb(1, 7, bytes(64))])
    core.lose_page(1, 2)
    with pytest.raises(KernelPanic, match="vm_thread_swapin: cannot get kstack for proc: 7"):
        core.vm_thread_swapin([ThreadPcb(1, 7)], 0)
    core.lose_page(2, 0)
    with pytest.raises(KernelPanic, match=r"vm_thread_dispose: kstack already missing\?"):
        core._cache.vm_thread_stack_dispose([core._state.stacks[2]])
    assert memory.calls[-1] == "stack_destroy"


def test_a_thread_with_a_stack_gets_no_second_one():
    core, memory = booted()
    core.vm_thread_new(threads(1), 0)
    for request in (threads(1), threads(5, 5)):
        with pytest.raises(KernelPanic, match="thread_alloc got thread with kstack"):
            core.vm_thread_new(request, 0)
    assert memory.calls == ["stack_create"]


@pytest.mark.parametrize("request_", [[3], [1, 3], [1, 1]])
def test_a_refused_dispose_changes_nothing(request_):
    core, _ = booted()
    core.vm_thread_new(threads(1, 2), 0)
    before = core.digest()
    with pytest.raises(Refused):
        core.vm_thread_dispose(request_)
    assert core.digest() == before


@given(
    samples=st.lists(
        st.tuples(
            st.sampled_from([0x1000, 2**63, 2**64 - 8 * 4096]),
            st.integers(-2, 40) | st.just(2**19),
            st.integers(-4096, 40 * 4096),
            st.booleans(),
        ),
        max_size=12,
    ),
    races=st.lists(st.integers(0, 3 * 4096), max_size=4),
)
def test_stack_use_is_what_plain_c_arithmetic_says(samples, races):
    core, _ = booted()
    core.inject([Answers("atomic_cmpset_int", races)])
    stored, pending, answers = 0, list(races), []
    for base, pages, depth, from_user in samples:
        top = (base + ((pages * 4096 + 2**31) % 2**32 - 2**31)) % 2**64
        current = (base + depth) % 2**64
        used = ((top - current) % 2**64 + 2**31) % 2**32 - 2**31
        while not from_user and base <= current < top and stored < used:
            seen, stored = stored, pending.pop(0) if pending else stored
            if seen == stored:
                stored = used
        answers.append(stored)
    request = [StackSample(base, pages, user, (base + depth) % 2**64) for base, pages, depth, user in samples]
    assert core.intr_prof_stack_use(request).max_kstack_used == answers
    assert counter(core, "debug.max_kstack_used") == stored


def test_as_deep_as_the_record_is_no_record():
    core, _ = booted()
    core.intr_prof_stack_use([StackSample(0x10000, 4, False, 0x13000 - lower) for lower in (0, 0, 8, 8)])
    told = [event for event in unpack(core.events(0, 100).records) if event.kind == Kind.KSTACK_MAX_USED]
    assert [event.subject for event in told] == [0x1000, 0x1008]


def test_sysctls_and_their_ranges():
    core, _ = booted(kstack_pages=2)
    core.vm_thread_new(threads(1), 0)
    core.sysctl_set(Setting("vm.kstack_cache_size", -(2**31)))
    values = {setting.name: setting.value for setting in core.sysctl_get().settings}
    assert values == {
        "debug.max_kstack_used": 0,
        "kern.kstack_pages": 2,
        "vm.kstack_cache_size": -(2**31),
        "vm.kstacks": 1,
    }
    with pytest.raises(Refused) as wide:
        core.sysctl_set(Setting("vm.kstack_cache_size", 2**31))
    assert wide.value.reason is Reason.FIELD_OUT_OF_RANGE
    with pytest.raises(Refused) as readonly:
        core.sysctl_set(Setting("vm.kstacks", 3))
    assert readonly.value.reason is Reason.UNKNOWN_SYSCTL


@pytest.mark.parametrize("config", [KstackBoot(kstack_pages=0), KstackBoot(33), KstackBoot(kstack_guard_pages=-1)])
def test_a_kernel_that_cannot_be_built_is_refused(config):
    core, _ = booted()
    with pytest.raises(Refused):
        core.boot(config)


def test_a_page_is_lost_only_where_injection_is_allowed():
    core, memory = booted()
    core.vm_thread_new(threads(1), 0)
    for stack, page in ((2, 0), (1, 4)):
        with pytest.raises(Refused):
            core.lose_page(stack, page)
    core.lose_page(1, 3)
    assert sorted(memory.objects[1]) == [0, 1, 2]
    core._ctx.env.allow_inject = False
    with pytest.raises(Refused) as refused:
        core.lose_page(1, 2)
    assert refused.value.reason is Reason.INJECTION_REFUSED


def test_destroyed_stacks_are_remembered_up_to_a_limit_and_boot_forgets_them():
    core, _ = booted()
    core.sysctl_set(Setting("vm.kstack_cache_size", -1))
    for start in range(0, 5000, 500):
        tids = list(range(start, start + 500))
        core.vm_thread_new(threads(*tids), 0)
        core.vm_thread_dispose(tids)
    freed = core.stack_states(with_freed=True).stacks
    assert (len(freed), freed[0].stack, freed[-1].stack) == (4096, 905, 5000)
    assert core.stack_states(with_freed=False).stacks == []
    core.boot(KstackBoot())
    assert core.stack_states(with_freed=True).stacks == []
    assert counter(core, "vm.kstacks") == 0


def test_placed_stacks_belong_to_their_threads_and_count():
    core, memory = booted()
    built = memory.stack_create([4, 2], 0).stacks
    core.place([ThreadOnStack(7, built[0].stack), ThreadOnStack(8, built[1].stack)])
    states = core.stack_states(False)
    assert [(s.tid, s.pages, s.obj, s.ks) for s in states.stacks] == [
        (tid, b.stack.pages, b.stack.obj, b.stack.ks) for tid, b in zip((7, 8), built, strict=True)
    ]
    assert states.kstacks == counter(core, "vm.kstacks") == 2
    core.vm_thread_swapout([ThreadPcb(7, 1, b"registers")])
    assert core.vm_thread_swapin([ThreadPcb(7, 1)], 0).pcbs[0].endswith(b"registers")
    assert core.check().violations == []
    with pytest.raises(KernelPanic, match="thread_alloc"):
        core.place([ThreadOnStack(8, built[1].stack)])
    core.boot(KstackBoot())
    with pytest.raises(Refused) as refused:
        core.place([])
    assert refused.value.reason is Reason.INJECTION_REFUSED


def test_stacks_are_destroyed_by_label_though_the_cache_has_room():
    core, memory = booted()
    core.vm_thread_new(threads(1, 2, 3), 0)
    core.vm_thread_dispose([3])
    gone = core.vm_thread_stack_dispose([2, 1])
    assert (gone.freed, gone.kva_bytes_freed, gone.kstacks, gone.cache_length) == ([2, 1], 10 * 4096, 1, 1)
    assert memory.calls.count("stack_destroy") == 1
    assert kinds(core)[-2:] == [Kind.KSTACK_DESTROYED] * 2
    assert core.check().violations == []
    assert not core.vm_thread_new(threads(1, 2), 0).stacks[1].cached, "threads without a stack may have a new one"


def test_a_stack_that_cannot_be_destroyed_by_itself_is_refused_and_no_other_is():
    core, memory = booted()
    core.vm_thread_new(threads(1, 2), 0)
    core.vm_thread_dispose([2])
    memory.free_pages = 0
    core.vm_thread_new(threads(3, pages=2), 0)
    before = core.digest()
    for labels, wrong, reason in (
        ([1, 9], 9, Reason.UNKNOWN_ID),
        ([1, 2], 2, Reason.FIELD_OUT_OF_RANGE),
        ([1, 3], 3, Reason.FIELD_OUT_OF_RANGE),
        ([1, 1], 1, Reason.FIELD_OUT_OF_RANGE),
    ):
        with pytest.raises(Refused) as refused:
            core.vm_thread_stack_dispose(labels)
        assert (refused.value.reason, refused.value.field, refused.value.value) == (reason, "stacks", wrong)
    assert core.digest() == before


def test_a_stack_whose_page_is_missing_panics_after_it_was_uncounted():
    core, _ = booted()
    core.vm_thread_new(threads(1), 0)
    core.lose_page(1, 3)
    with pytest.raises(KernelPanic) as panic:
        core.vm_thread_stack_dispose([1])
    assert (str(panic.value), panic.value.line) == ("vm_thread_dispose: kstack already missing?", 423)
    assert core.stack_states(False).kstacks == 0


def test_a_core_goes_on_from_its_checkpoint():
    core, memory = booted()
    core.vm_thread_new(threads(1, 2, 3), 0)
    core.vm_thread_dispose([2])
    saved = core.checkpoint_save(0)
    other = KstackCore(Context("kstack", inject_permitted=True), memory)
    other.boot(KstackBoot(2, 1, allow_inject=True))
    other.checkpoint_load(0, saved.size, saved.data)
    other.checkpoint_commit()
    assert other.digest() == core.digest()
    assert other.check().violations == []
    again = other.vm_thread_new(threads(4), 0)
    assert (again.stacks[0].stack, again.stacks[0].cached, again.kstacks) == (2, True, 3)
