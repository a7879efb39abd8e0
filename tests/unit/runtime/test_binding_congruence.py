"""Both bindings do the same around a call: the same tests run against a toy core in either wiring."""

from __future__ import annotations

import pytest
from toy_wirings import BOOT, wired

from services.ports.common import Answers, IoStart, Setting
from services.ports.kstack import DisposedStack, ThreadStack
from services.runtime.errors import KernelPanic, Reason, Refused, ServiceFault, ServiceLost


@pytest.fixture(params=["local", "grpc"])
def system(request, tmp_path):
    with wired(request.param, tmp_path) as toy:
        yield toy.boot()


@pytest.fixture(params=["local", "grpc"])
def unbooted(request, tmp_path):
    with wired(request.param, tmp_path) as toy:
        yield toy


def test_an_answer_and_its_up_calls_arrive(system):
    system.caller.now_us, system.caller.ticks = 1234, -5
    system.caller.wakeup("mine")
    answer = system.port.vm_thread_new([ThreadStack(8, 4), ThreadStack(9, 2)], op=3)
    assert [(stack.stack, stack.td_kstack_pages, stack.ok) for stack in answer.stacks] == [(8, 4, True), (9, 2, True)]
    assert (answer.kstacks, answer.cache_length, answer.suspension) == (2, 2, None)
    assert system.caller.upcalls.wakeups == ["mine", "op:3"]
    assert system.caller.upcalls.ios == [IoStart(7, 1239)]
    assert not system.core.ctx.upcalls
    assert system.core.clocks == [("vm_thread_new", 1234, -5)]


def test_arguments_may_be_named(system):
    answer = system.port.vm_thread_dispose(tids=[1, 2])
    assert answer.stacks == [DisposedStack(1, False), DisposedStack(2, True)]
    with pytest.raises(TypeError, match="vm_thread_dispose takes"):
        system.port.vm_thread_dispose([1], tids=[2])
    with pytest.raises(TypeError, match="vm_thread_dispose takes"):
        system.port.vm_thread_dispose()


def test_a_reading_call_leaves_the_clock_alone(system):
    system.caller.now_us, system.caller.ticks = 50, 6
    system.port.vm_thread_new([], 0)
    system.caller.now_us, system.caller.ticks = 0, 0
    with pytest.raises(Refused):
        system.port.stack_states(True)
    assert system.core.clocks == [("vm_thread_new", 50, 6), ("stack_states", 50, 6)]


def test_a_caller_s_mistake_reads_the_same(system):
    with pytest.raises(Refused) as refused:
        system.port.vm_thread_dispose([404])
    assert str(refused.value) == "tids[0]: 404 is refused (unknown_id); expected a thread that lives"
    assert (refused.value.reason, refused.value.field) == (Reason.UNKNOWN_ID, "tids[0]")
    with pytest.raises(Refused) as refused:
        system.port.sysctl_set(Setting("vm.nonsense", 1))
    assert str(refused.value) == "setting.name: 'vm.nonsense' is refused (unknown_sysctl); expected one of these"
    assert system.port.vm_thread_dispose([2]).stacks == [DisposedStack(2, True)]


def test_what_a_c_type_cannot_hold_is_refused(system):
    with pytest.raises(Refused) as refused:
        system.port.vm_thread_new([ThreadStack(1, 1), ThreadStack(1, 2**31)], 0)
    assert str(refused.value) == (
        "threads[1].pages: 2147483648 is refused (field_out_of_range); expected int32, -2147483648 to 2147483647"
    )
    assert system.core.clocks == []


def test_a_panic_stops_the_machine_but_not_its_inspection(system):
    with pytest.raises(KernelPanic) as panic:
        system.port.vm_thread_stack_lowmem()
    assert (str(panic.value), panic.value.function, panic.value.line) == (
        "vm_thread_stack_dispose: kstack",
        "vm_thread_stack_dispose",
        417,
    )
    with pytest.raises(Refused) as refused:
        system.port.vm_thread_new([], 0)
    assert refused.value.reason is Reason.MACHINE_STOPPED
    assert "panic: vm_thread_stack_dispose: kstack" in str(refused.value.value)
    assert system.port.check().violations == ["kstacks: 1 is 2"]
    system.port.boot(BOOT)
    assert system.port.vm_thread_new([ThreadStack(1, 1)], 0).kstacks == 1


def test_a_panic_of_a_reading_call_stops_as_well(system):
    with pytest.raises(KernelPanic):
        system.port.stack_states(False)
    with pytest.raises(Refused, match="machine_stopped"):
        system.port.vm_thread_new([], 0)


def test_a_service_lost_below_stops_the_machine(system):
    with pytest.raises(ServiceLost) as lost:
        system.port.vm_thread_swapout([])
    assert (lost.value.service, lost.value.why) == ("physmem", "it did not answer in time")
    with pytest.raises(Refused) as refused:
        system.port.vm_thread_new([], 0)
    assert refused.value.reason is Reason.MACHINE_STOPPED
    assert "physmem was lost" in str(refused.value.value)


def test_a_defect_stops_the_machine(system):
    with pytest.raises((ZeroDivisionError, ServiceFault)):
        system.port.vm_thread_swapin([], 0)
    with pytest.raises(Refused, match="machine_stopped"):
        system.port.vm_thread_new([], 0)
    assert system.port.digest().state == b"state"


def test_nothing_is_answered_before_boot(unbooted):
    for call in (unbooted.port.counters, lambda: unbooted.port.vm_thread_dispose([1])):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason is Reason.NOT_BOOTED
    unbooted.port.boot(BOOT)
    assert unbooted.port.counters().values == [0]


def test_scripted_answers_travel_where_they_are_permitted(system):
    system.port.inject([Answers("kva_alloc", [1, 0], 9, True, False)])
    asked = [system.core.ctx.env.ask("kva_alloc", lambda: 5) for _ in range(3)]
    assert asked == [1, 0, 9]
    system.core.ctx.inject_permitted = False
    system.port.boot(BOOT)
    with pytest.raises(Refused, match="injection_refused"):
        system.port.inject([])


def test_events_and_hash_do_not_depend_on_the_wiring(tmp_path):
    digests = []
    for wiring in ("local", "grpc"):
        with wired(wiring, tmp_path) as toy:
            toy.boot()
            for now_us in range(0, 5000, 1000):
                toy.caller.now_us = now_us
                toy.port.vm_thread_new([ThreadStack(now_us, 1)], 0)
            chunk = toy.port.events(2, 2)
            assert (chunk.first, chunk.total, len(chunk.records)) == (2, 5, 128)
            digests.append((toy.port.digest(), chunk.records))
    assert digests[0] == digests[1]


def test_counters_are_read_through_the_context(system):
    system.port.vm_thread_new([ThreadStack(1, 1)] * 3, 0)
    names = ["vm.kstacks", "vm.never_counted"]
    assert system.caller.read_counters("kstack", names) == {"vm.kstacks": 3, "vm.never_counted": 0}
    with pytest.raises(LookupError, match="no port of pager"):
        system.caller.read_counters("pager", ["x"])


def test_calls_are_counted(system):
    before = system.caller.calls
    system.port.digest()
    system.port.vm_thread_new([], 0)
    with pytest.raises(Refused):
        system.port.vm_thread_dispose([404])
    assert system.caller.calls == before + 3
