"""machine.proto over a real socket, on a machine whose services live in this process."""

import json
import threading
import time

import grpc
import pytest
from certificates import tls
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from made_trace import make_workload

from clients.event_file import EventRecorder, read_events
from clients.exits import BadInput
from clients.keep import listen_address, served
from clients.machine_client import MachineClient, resolve_target
from clients.report import Ending
from clients.run import Run
from clients.system import System
from clients.upload import load_requests
from clients.workload import WorkloadError, load_workload, override
from protos import machine_pb2 as pb
from protos.machine_pb2_grpc import MachineServiceStub
from services.runtime.errors import KernelPanic, Reason, Refused, ServiceLost
from services.runtime.limits import STREAMS_MAX

STATES = pb.MachineState


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A served system and a client of it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with (
        System.local(allow_inject=True) as system,
        served(system, listen_address("")),
        MachineClient("default") as client,
    ):
        client.system = system
        yield client


@pytest.fixture
def stub(kept):
    with grpc.insecure_channel(kept.address) as channel:
        yield MachineServiceStub(channel)


@pytest.fixture
def made(tmp_path):
    return load_workload(str(make_workload(tmp_path, rounds=1)))


@pytest.fixture
def endless(tmp_path):
    return load_workload(str(make_workload(tmp_path, rounds=1, repeat=100_000)))


def local_hash(workload) -> str:
    with System.local() as system:
        run = Run(system.kernel, workload)
        run.boot()
        return run.report(run.execute())["event_hash"]


def state(client) -> int:
    return client.status().progress.state


def test_a_run_there_is_a_run_here(kept, made):
    assert state(kept) == STATES.MACHINE_STATE_EMPTY
    answer = kept.load(made)
    assert (answer.programs, answer.ram_pages) == (2, 1024)
    assert state(kept) == STATES.MACHINE_STATE_LOADED
    told = []
    result = kept.run(check=True, progress=told.append)
    assert result.failure is None
    assert result.report["event_hash"] == local_hash(made)
    assert result.report["checks"] == result.report["dispatches"]
    assert state(kept) == STATES.MACHINE_STATE_FINISHED


def test_overrides_travel(kept, made):
    kept.load(override(made, seed=9, ram="8 MiB", sysctls=["vm.max_launder=16"]))
    assert kept.sysctls()["vm.max_launder"][0] == 16
    assert kept.run().report["seed"] == 9
    assert kept.status().progress.free_pages > 1024


def test_steps_are_dispatches(kept, made):
    kept.load(made)
    first = kept.step()
    assert first.progress.dispatches == 1
    assert first.progress.state == STATES.MACHINE_STATE_PAUSED
    assert "process" in first.next or "idle" in first.next
    assert kept.step(5).progress.dispatches == 6
    assert kept.run().report["event_hash"] == local_hash(made)


def test_a_paused_run_goes_on_to_the_same_hash(kept, made):
    kept.load(made)
    told = []
    result = kept.run(stop=lambda: True, progress=told.append)
    assert result.report["end"] in (Ending.PAUSED.value, Ending.COMPLETE.value)
    if state(kept) == STATES.MACHINE_STATE_PAUSED:
        result = kept.run()
    assert result.report["event_hash"] == local_hash(made)


def test_a_run_pauses_at_a_virtual_time(kept, stub, made):
    kept.load(made)
    *_, last = stub.Run(pb.RunRequest(until_us=3_000))
    assert json.loads(last.report_json)["virtual_seconds"] >= 0.003
    assert state(kept) == STATES.MACHINE_STATE_PAUSED


def test_what_the_state_does_not_allow_is_refused(kept, stub, endless):
    with pytest.raises(BadInput, match="load a workload first"):
        kept.run()
    kept.load(endless)
    news = stub.Run(pb.RunRequest(progress_interval_ms=10))
    next(news)
    for act in (lambda: kept.load(endless), kept.run, kept.step):
        with pytest.raises(BadInput, match="pause it"):
            act()
    assert kept.pause().state == STATES.MACHINE_STATE_PAUSED
    assert [n.WhichOneof("news") for n in news][-1] == "report_json"


def test_a_repeated_request_attaches_or_gets_the_first_answer(stub, endless):
    requests = list(load_requests(endless, "load-1"))
    assert stub.Load(iter(requests)) == stub.Load(iter(requests))
    first, again = (stub.Run(pb.RunRequest(request_id="run-1", progress_interval_ms=10)) for _ in range(2))
    next(first), next(again)
    step = stub.Pause(pb.PauseRequest(request_id="pause-1"))
    ends = [[n.report_json for n in news if n.report_json] for news in (first, again)]
    assert ends[0] == ends[1] != []
    assert stub.Pause(pb.PauseRequest(request_id="pause-1")) == step
    once = stub.Step(pb.StepRequest(request_id="step-1", dispatches=3))
    assert stub.Step(pb.StepRequest(request_id="step-1", dispatches=3)) == once
    assert stub.Step(pb.StepRequest(request_id="step-2")).progress.dispatches == once.progress.dispatches + 1


def test_the_last_client_that_goes_away_pauses_the_run(kept, stub, endless):
    kept.load(endless)
    first, second = (stub.Run(pb.RunRequest(request_id="r", progress_interval_ms=10)) for _ in range(2))
    next(first), next(second)
    first.cancel()
    time.sleep(0.2)
    assert state(kept) == STATES.MACHINE_STATE_RUNNING
    second.cancel()
    deadline = time.monotonic() + 10
    while state(kept) != STATES.MACHINE_STATE_PAUSED:
        assert time.monotonic() < deadline


def test_a_panic_is_told_with_its_function_and_line(kept, made):
    kept.load(made)

    def panic(*_):
        raise KernelPanic("faultin: oops", "faultin", 700)

    kept.system.kernel.physmem.access_kept = panic
    result = kept.run()
    assert result.report["end"] == "panic"
    assert (result.failure.function, result.failure.line) == ("faultin", 700)
    assert kept.status().failure.text == "panic: faultin: oops (faultin, vm_glue.c:700)"
    assert state(kept) == STATES.MACHINE_STATE_PANICKED
    with pytest.raises(BadInput, match="panicked"):
        kept.run()


@pytest.mark.parametrize("error", [ServiceLost("pager", "gone"), RuntimeError("a defect")])
def test_whoever_waits_is_told_that_the_machine_is_lost(kept, made, error):
    kept.load(made)

    def fail(*_):
        raise error

    kept.system.kernel.physmem.access_kept = fail
    result = kept.run()
    assert result.report == {}
    assert str(error) in result.failure.text
    assert state(kept) == STATES.MACHINE_STATE_LOST
    with pytest.raises(BadInput, match="start another"):
        kept.load(made)


def test_services_that_run_elsewhere_may_come_back(kept, made):
    kept.system.addresses["pager"] = "pager:50051"
    kept.load(made)
    access = kept.system.kernel.physmem.access_kept

    def fail(*_):
        raise ServiceLost("pager", "gone")

    kept.system.kernel.physmem.access_kept = fail
    assert kept.run().failure.lost_service == "pager"
    kept.system.kernel.physmem.access_kept = access
    kept.load(made)
    assert kept.run().report["end"] == "complete"


def test_recorded_events_are_complete(kept, made, tmp_path):
    kept.load(made)
    kept.run()
    with EventRecorder(tmp_path / "events", {}) as recorder:
        kept.record(recorder)
    count = sum(port.digest().event_count for port in kept.system.kernel.ports().values())
    assert len(list(read_events(tmp_path / "events"))) == count


def test_watchers_see_new_events(kept, stub, made):
    kept.load(made)
    seen = []
    stream = stub.WatchEvents(pb.WatchEventsRequest(services=["scheduler"], follow=True))

    def watch():
        try:
            seen.extend(iter(stream))
        except grpc.RpcError as error:
            seen.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(0.5)
    before = kept.system.kernel.scheduler.digest().event_count
    kept.run()
    time.sleep(0.5)
    stream.cancel()
    thread.join()
    *chunks, end = seen
    assert end.code() is grpc.StatusCode.CANCELLED
    assert chunks[0].first == before, "only what came after the watch began"
    assert (
        sum(len(chunk.records) // 64 for chunk in chunks) == kept.system.kernel.scheduler.digest().event_count - before
    )


def test_unknown_names_are_not_found(kept, stub, made):
    kept.load(made)
    calls = (
        lambda: stub.GetSysctl(pb.GetSysctlRequest(name="vm.nothing")),
        lambda: stub.SetSysctl(pb.SetSysctlRequest(name="vm.nothing", value=1)),
        lambda: stub.Inject(pb.InjectRequest(service="redis")),
        lambda: list(stub.WatchEvents(pb.WatchEventsRequest(services=["redis"]))),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "nothing" in caught.value.details() or "redis" in caught.value.details()


def test_sysctls_are_read_and_set(kept, stub, made):
    kept.load(made)
    answer = stub.SetSysctl(pb.SetSysctlRequest(name="vm.kstack_cache_size", value=7))
    assert (answer.before, answer.sysctl.value, answer.sysctl.service) == (128, 7, "kstack")
    assert stub.GetSysctl(pb.GetSysctlRequest(name="vm.kstack_cache_size")).sysctl.value == 7
    with pytest.raises(Refused):
        kept.set_sysctl("vm.kstacks", 1)


def test_a_process_is_stopped_continued_and_ended(kept, stub, made):
    kept.load(made)
    stub.Step(pb.StepRequest(dispatches=1))
    pid = next(row.pid for row in kept.system.kernel.scheduler.processes().processes if row.pid >= 100)
    for signal in (17, 19, 9):
        stub.Kill(pb.KillRequest(pids=[pid], signal=signal))
    stub.Step(pb.StepRequest(dispatches=2))
    row = next(row for row in kept.system.kernel.scheduler.processes().processes if row.pid == pid)
    assert row.status == -9
    with pytest.raises(grpc.RpcError) as caught:
        stub.Kill(pb.KillRequest(pids=[1], signal=17))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def living(kept) -> list[int]:
    """Programs' processes that have not ended."""
    rows = kept.system.kernel.scheduler.processes().processes
    return [row.pid for row in rows if row.pid >= 100 and row.state not in ("ended", "zombie")]


def test_a_machine_whose_processes_are_all_stopped_goes_on_when_they_are_continued(kept, stub, made):
    kept.load(made)
    stub.Step(pb.StepRequest(dispatches=1))
    while state(kept) == STATES.MACHINE_STATE_PAUSED:
        stub.Kill(pb.KillRequest(pids=living(kept), signal=17))
        stub.Step(pb.StepRequest(dispatches=1))
    assert state(kept) == STATES.MACHINE_STATE_FINISHED
    assert living(kept)
    stub.Kill(pb.KillRequest(pids=living(kept), signal=19))
    assert state(kept) == STATES.MACHINE_STATE_PAUSED
    list(stub.Run(pb.RunRequest(request_id="on")))
    assert state(kept) == STATES.MACHINE_STATE_FINISHED
    assert living(kept) == []


def test_scripts_are_injected_only_where_that_is_allowed(kept, stub, made):
    kept.load(made)
    request = pb.InjectRequest(service="kstack", scripts=[pb.Script(question="kva_alloc", answers=[0])])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Inject(request)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, "this boot does not allow it"


def test_a_wrong_workload_is_the_client_s_mistake(kept, stub, made):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Load(iter([pb.LoadRequest(head=pb.LoadHead(name="w.toml", toml="[machine]\nrom = 1\n"))]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("w.toml:2")
    with pytest.raises((BadInput, WorkloadError), match=r"vm\.nothing"):
        kept.load(override(made, sysctls=["vm.nothing=1"]))


def test_status_tells_who_waits(kept, made):
    kept.load(made)
    kept.step(30)
    found = kept.status()
    assert [service.name for service in found.services] == ["pager", "physmem", "kstack", "scheduler"]
    assert {service.health for service in found.services} == {"SERVING"}
    waiting = {waiter.name: waiter.wmesg for waiter in found.waiters}
    assert waiting["vmdaemon"] == "psleep"
    assert found.workload == "made"


def test_foreign_clients_find_the_service_by_reflection(kept):
    with grpc.insecure_channel(kept.address) as channel:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([asked]))
        names = {service.name for service in answer.list_services_response.service}
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert "vmglue.machine.v1.MachineService" in names
    assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.usefixtures("kept")
def test_one_default_system_a_user():
    with pytest.raises(BadInput, match="up already"):
        listen_address("")


@pytest.mark.parametrize("listen", ["0.0.0.0:7100", "[::]:7100", "example.org:80"])
def test_other_addresses_than_loopback_need_a_word(tmp_path, monkeypatch, listen):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(BadInput, match="anybody could call"):
        listen_address(listen)
    assert listen_address(listen, tls("orchestrator")) == listen


@pytest.mark.usefixtures("kept")
def test_the_socket_is_private(tmp_path):
    path = tmp_path / "vmglue" / "machine.sock"
    assert path.stat().st_mode & 0o777 == 0o600


def test_targets_are_written_in_several_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert resolve_target("127.0.0.1:7100") == "127.0.0.1:7100"
    assert resolve_target("unix:/a/b.sock") == "unix:/a/b.sock"
    assert resolve_target("/a/b.sock") == "unix:/a/b.sock"
    with pytest.raises(BadInput, match="vmglue up"):
        resolve_target("default")


def test_streams_are_limited_and_calls_still_answered(kept, stub, made):
    kept.load(made)
    follow = pb.WatchEventsRequest(follow=True, since={"scheduler": 0})
    streams = [stub.WatchEvents(follow) for _ in range(STREAMS_MAX)]
    for stream in streams:
        assert next(stream).service
    with pytest.raises(grpc.RpcError) as error:
        next(stub.WatchEvents(follow))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"at most {STREAMS_MAX} at once" in error.value.details()
    assert kept.status().machine == "local"
    for stream in streams:
        stream.cancel()
    deadline = time.monotonic() + 5
    while _ended_at_once(stub.WatchEvents(follow)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _ended_at_once(stream):
    try:
        return next(stream) is None
    except grpc.RpcError:
        return True


def test_a_watcher_that_falls_behind_what_is_kept_is_told(kept, stub, made):
    kept.load(made)
    kept.run()
    log = kept.system.kernel.scheduler.events
    first = log(0, 0).total - 10

    def trimmed(since, limit):
        return log(max(since, first), limit)

    kept.system.kernel.scheduler.events = trimmed
    assert next(stub.WatchEvents(pb.WatchEventsRequest(services=["scheduler"], since={"scheduler": 0}))).first == first
    with pytest.raises(grpc.RpcError) as error:
        next(stub.WatchEvents(pb.WatchEventsRequest(services=["scheduler"], since={"scheduler": 5})))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"events before {first} are gone" in error.value.details()


@pytest.mark.parametrize("left", [0, 16_000])
def test_a_checkpoint_that_is_too_large_is_exhausted(kept, stub, made, monkeypatch, left):
    kept.load(made)
    whole = kept.save_checkpoint()
    monkeypatch.setattr("services.runtime.snapshot.memory_left", lambda: left)
    with pytest.raises(Refused, match="the memory that is left permits") as refused:
        kept.save_checkpoint()
    assert refused.value.reason is Reason.QUOTA
    with pytest.raises(grpc.RpcError) as error:
        stub.LoadCheckpoint(iter([pb.LoadCheckpointRequest(data=whole)]))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    monkeypatch.undo()
    assert kept.run().report["event_hash"] == local_hash(made)


def test_a_trace_that_is_too_large_is_exhausted(kept, stub, made, monkeypatch):
    monkeypatch.setattr("clients.trace.memory_left", lambda: 100)
    with pytest.raises(grpc.RpcError) as error:
        stub.Load(load_requests(made, "1"))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the memory that is left permits 33" in error.value.details()
    monkeypatch.undo()
    kept.load(made)
