"""What the gRPC binding alone has: repeats, boot ids, statuses, retries."""

from __future__ import annotations

import threading

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from toy_kstack import ToyKstack
from toy_wirings import BOOT, served, wired

from protos import kstack_pb2, kstack_pb2_grpc
from services.ports.kstack import KstackPort, StackSample, ThreadStack
from services.runtime.context import Context
from services.runtime.counters import MemoryBoard
from services.runtime.errors import KernelPanic, Reason, Refused, ServiceFault, ServiceLost
from services.runtime.remote import Caller, connect, open_channel
from services.runtime.servicer import AnswerCache


@pytest.fixture
def toy(tmp_path):
    with wired("grpc", tmp_path) as started:
        yield started.boot()


def new_stack(toy, request_id, **header):
    stub = kstack_pb2_grpc.KstackServiceStub(toy.channel)
    header = {"request_id": request_id, **header}
    return stub.VmThreadNew(kstack_pb2.VmThreadNewRequest(header=header, threads=[{"tid": 5, "pages": 1}]), timeout=5)


def details(error):
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info, violations = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(violations)
    return info, violations


def test_a_repeated_request_changes_nothing_and_gets_the_first_answer(toy):
    first = new_stack(toy, "a", now_us=5)
    again = new_stack(toy, "a", now_us=999)
    assert again == first
    assert toy.core.clocks == [("vm_thread_new", 5, 0)]
    assert new_stack(toy, "b").kstacks == 2
    assert new_stack(toy, "").kstacks == 3
    assert new_stack(toy, "").kstacks == 4


def test_a_panic_is_an_answer_that_is_repeated(toy):
    stub = kstack_pb2_grpc.KstackServiceStub(toy.channel)
    request = kstack_pb2.VmThreadStackLowmemRequest(header={"request_id": "p"})
    first = stub.VmThreadStackLowmem(request, timeout=5)
    assert first.header.panic.line == 417
    assert stub.VmThreadStackLowmem(request, timeout=5) == first


def test_an_id_of_another_call_is_refused(toy):
    new_stack(toy, "a")
    stub = kstack_pb2_grpc.KstackServiceStub(toy.channel)
    with pytest.raises(grpc.RpcError) as error:
        stub.VmThreadDispose(kstack_pb2.VmThreadDisposeRequest(header={"request_id": "a"}), timeout=5)
    info, violations = details(error.value)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info.metadata["field"] == "header.request_id"
    assert [violation.field for violation in violations.field_violations] == ["header.request_id"]


def test_another_machine_is_refused(toy):
    with pytest.raises(grpc.RpcError) as error:
        new_stack(toy, "a", machine="other")
    assert details(error.value)[0].metadata["field"] == "header.machine"
    assert new_stack(toy, "a", machine="m").kstacks == 1


def test_a_defect_leaves_an_id_and_nothing_else(toy, capsys):
    with pytest.raises(ServiceFault) as fault:
        toy.port.vm_thread_swapin([], 0)
    assert "secret" not in str(fault.value)
    assert len(fault.value.error_id) == 12
    assert fault.value.error_id in capsys.readouterr().out


def test_an_answer_that_the_contract_cannot_hold_is_a_defect(toy):
    with pytest.raises(ServiceFault):
        toy.port.intr_prof_stack_use([StackSample()])
    with pytest.raises(Refused, match="machine_stopped"):
        toy.port.vm_thread_new([], 0)


def test_a_restarted_service_is_lost(tmp_path):
    address = f"unix:{tmp_path}/toy.sock"
    caller = Context("orchestrator")
    with open_channel(address) as channel:
        port = connect(KstackPort, channel, Caller(caller, deadline_s=5))
        with served(ToyKstack(Context("kstack")), MemoryBoard(), address, boot_id=1):
            port.boot(BOOT)
        second = ToyKstack(Context("kstack"))
        with served(second, MemoryBoard(), address, boot_id=2):
            with pytest.raises(ServiceLost, match=r"kstack restarted at 1970-.*; the machine's memory is gone; load"):
                port.vm_thread_new([], 0)
            second.ctx.booted = True
            with pytest.raises(ServiceLost, match="restarted"):
                port.counters()
            port.boot(BOOT)
            assert port.vm_thread_new([ThreadStack(1, 1)], 0).kstacks == 1
        with pytest.raises(ServiceLost) as lost:
            port.counters()
        assert lost.value.service == "kstack"


def test_a_service_that_does_not_answer_in_time_is_lost(tmp_path):
    release = threading.Event()

    class Stuck(ToyKstack):
        def digest(self):
            release.wait(5)
            return super().digest()

    address = f"unix:{tmp_path}/toy.sock"
    with served(Stuck(Context("kstack")), MemoryBoard(), address), open_channel(address) as channel:
        port = connect(KstackPort, channel, Caller(Context("orchestrator"), deadline_s=0.2))
        port.boot(BOOT)
        with pytest.raises(ServiceLost, match="did not answer in time"):
            port.digest()
        release.set()


def test_a_call_waits_for_a_service_that_is_just_not_there_yet(tmp_path):
    """Retries on UNAVAILABLE reach a server that starts a moment later."""
    address = f"unix:{tmp_path}/toy.sock"
    core = ToyKstack(Context("kstack"))
    with open_channel(address) as channel:
        port = connect(KstackPort, channel, Caller(Context("orchestrator"), deadline_s=5))
        stop = threading.Event()

        def later():
            stop.wait(0.08)
            with served(core, MemoryBoard(), address):
                stop.wait(5)

        thread = threading.Thread(target=later)
        thread.start()
        try:
            port.boot(BOOT)
        finally:
            stop.set()
            thread.join()
    assert core.ctx.booted


def test_what_was_seen_travels_down_and_up(toy):
    toy.caller.seen["physmem"] = 41
    toy.port.vm_thread_new([], 0)
    assert toy.core.ctx.seen["physmem"] == 41
    toy.core.ctx.seen["physmem"] = 50
    toy.port.vm_thread_new([], 0)
    assert toy.caller.seen == {"physmem": 50, "kstack": toy.core.ctx.sequence}


def test_a_fresh_board_spares_the_owner_a_call(tmp_path):
    class Board:
        def __init__(self):
            self.asked, self.answer = [], {"vm.kstacks": 77}

        def read_fresh(self, service, names, sequence, boot_id):
            self.asked.append((service, tuple(names), sequence, boot_id))
            return self.answer

    address, board, caller = f"unix:{tmp_path}/toy.sock", Board(), Context("orchestrator")
    with served(ToyKstack(Context("kstack")), MemoryBoard(), address, 9), open_channel(address) as channel:
        port = connect(KstackPort, channel, Caller(caller, deadline_s=5, board=board))
        port.boot(BOOT)
        assert caller.read_counters("kstack", ["vm.kstacks"]) == {"vm.kstacks": 77}
        assert board.asked == [("kstack", ("vm.kstacks",), 1, 9)]
        board.answer = None
        assert caller.read_counters("kstack", ["vm.kstacks"]) == {"vm.kstacks": 0}
        caller.seen.clear()
        assert caller.read_counters("kstack", ["vm.kstacks"]) == {"vm.kstacks": 0}
        assert len(board.asked) == 2


def test_a_panic_is_published(toy):
    before = toy.core.ctx.sequence
    with pytest.raises(KernelPanic):
        toy.port.vm_thread_stack_lowmem()
    assert toy.core.ctx.sequence == before + 1


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.UNAVAILABLE])
def test_every_reason_reads_the_same_behind_the_wire(toy, reason):
    error = Refused(reason, "field", {"a": 1}, "something else")
    toy.core.refusal = error
    with pytest.raises(Refused) as refused:
        toy.port.vm_thread_dispose([505])
    assert str(refused.value) == str(error)
    assert refused.value.reason is reason


def test_answers_are_kept_within_count_and_size():
    cache = AnswerCache(answers=3, size_bytes=1 << 20)
    for i in range(5):
        cache.put(str(i), "A", kstack_pb2.VmThreadNewResponse(kstacks=i))
    assert [cache.get(str(i), "A") is not None for i in range(5)] == [False, False, True, True, True]
    cache = AnswerCache(answers=100, size_bytes=250)
    for i in range(5):
        cache.put(str(i), "A", kstack_pb2.EventsResponse(records=bytes(100)))
    assert [cache.get(str(i), "A") is not None for i in range(5)] == [False, False, False, True, True]
    with pytest.raises(Refused, match="a new id: A had it"):
        cache.get("4", "B")


def test_a_list_that_is_too_long_is_exhausted_and_changes_nothing(toy, monkeypatch):
    monkeypatch.setattr("services.runtime.servicer.BATCH_ITEMS_MAX", 3)
    assert len(toy.port.vm_thread_new([ThreadStack(tid, 1) for tid in range(3)], 0).stacks) == 3
    with pytest.raises(Refused, match=r"'4 items' is refused .quota.; expected at most 3 in a call") as refused:
        toy.port.vm_thread_new([ThreadStack(tid, 1) for tid in range(4)], 0)
    assert (refused.value.reason, refused.value.field) == (Reason.QUOTA, "threads")
    assert toy.port.vm_thread_new([], 0).kstacks == 3
