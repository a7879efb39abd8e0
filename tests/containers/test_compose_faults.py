"""Parts of the stack are stopped, killed, paused and cut off in the middle of a run: what the caller is told."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from conftest import SERVICES, Stack, run
from grpc_health.v1 import health_pb2, health_pb2_grpc
from systems import start_system

from clients.bench.processor import boot
from clients.bench.stacks import boot_kstack
from clients.exits import BadInput, Exit
from clients.kernel import Kernel
from clients.machine_client import MachineClient, RemoteRun
from clients.run import Run
from clients.workload import load_workload
from protos import common_pb2, common_pb2_grpc
from services.ports.kstack import ThreadStack
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.scheduler import SchedulerBoot
from services.runtime.errors import ServiceLost

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]
MIDDLE = 200
"""Dispatches after which a run is well under way, and far from its end."""
REFUSALS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
"""How gRPC ends a call that no handler has seen: CANCELLED if it came in the moment of the closing."""
TOLD_S = 100
"""Longest time until a caller is told: a silent peer is noticed after 15 s, then it is called anew for a while."""


@pytest.fixture(scope="module")
def expected():
    """What the machine of `tiny` ends with."""
    with start_system("local") as system:
        tiny = Run(system.kernel, load_workload("tiny"))
        tiny.boot()
        return tiny.report(tiny.execute())["event_hash"]


def run_through(stack: Stack, strike=lambda: None) -> RemoteRun:
    """Load `tiny` and run it; in the middle something happens."""
    struck = threading.Event()

    def watch(progress) -> None:
        if progress.dispatches > MIDDLE and not struck.is_set():
            struck.set()
            strike()

    with stack.client() as client:
        client.load(load_workload("tiny"))
        result = client.run(progress=watch)
    assert struck.is_set()
    return result


ENDED, SILENT, HANGS = "it ended or was killed", "it fell silent", "it did not answer in time"
UNREACHABLE = "it cannot be reached"
"""What a caller is told of the cause; where a container ended, its name and address may have gone with it."""
TOLD = re.compile(
    rf"(\w+) was lost: ({ENDED}|{SILENT}|{HANGS}|{UNREACHABLE}|\1 restarted at).*"
    r"; (?:noticed at .* UTC; when it serves again, |the machine's memory is gone; )"
    r"load a checkpoint or run the workload anew",
    re.DOTALL,
)


def assert_lost(result: RemoteRun, part: str, *causes: str) -> None:
    """The caller got no report, and is told which service is gone, why, when and what to do."""
    assert result.report == {}
    assert result.failure is not None
    assert result.failure.lost_service == part
    assert_told(result.failure.text, part, *causes)


def assert_told(text: str, part: str, *causes: str) -> None:
    print(text)
    told = TOLD.fullmatch(text)
    assert told, text
    assert told[1] == part
    assert told[2] in causes, text


def assert_works_again(stack: Stack, expected: str) -> None:
    """Once all parts are up, a workload runs from its beginning to the same end."""
    stack.up()
    assert run_through(stack).report["event_hash"] == expected


def each_service(*quick: str):
    """Services one at a time; all but the quick ones are for the long run."""
    return pytest.mark.parametrize(
        "part", [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in SERVICES]
    )


@each_service("physmem")
def test_killed(stack, expected, part):
    assert_lost(run_through(stack, lambda: run(["docker", "kill", stack.container(part)])), part, ENDED, UNREACHABLE)
    assert_works_again(stack, expected)


@each_service()
def test_restarted(stack, expected, part):
    """It is back at once, but what it held is gone: that is told, and no wrong data."""
    result = run_through(stack, lambda: run(["docker", "restart", "--time", "10", stack.container(part)]))
    assert_lost(result, part, ENDED, UNREACHABLE, f"{part} restarted at")
    assert_works_again(stack, expected)


@each_service()
def test_paused(stack, expected, part):
    clock = Stopwatch()
    try:
        result = run_through(stack, lambda: clock.start(stack.pause(part)))
    finally:
        stack.compose("unpause", part)
    assert clock.seconds < TOLD_S
    assert_lost(result, part, SILENT, HANGS, UNREACHABLE)
    assert_works_again(stack, expected)


@each_service()
def test_cut_off(stack, expected, part):
    network, container, clock = f"{stack.name}_default", stack.container(part), Stopwatch()
    try:
        result = run_through(stack, lambda: clock.start(run(["docker", "network", "disconnect", network, container])))
    finally:
        run(["docker", "network", "connect", "--alias", part, network, container])
    assert clock.seconds < TOLD_S
    assert_lost(result, part, SILENT, HANGS, UNREACHABLE, ENDED)
    assert_works_again(stack, expected)


class Stopwatch:
    """Seconds since something was done."""

    def start(self, _: object) -> None:
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


@dataclass
class Calls:
    """Calls of one kind, one after another on several channels, until a service refuses them."""

    stack: Stack
    part: str
    channels: int
    ended: threading.Event = field(default_factory=threading.Event)
    answered: int = 0
    refused: list[tuple[float, grpc.StatusCode]] = field(default_factory=list)

    def one_after_another(self) -> None:
        credentials = self.stack.files_of("operator").channel_credentials()
        options = [("grpc.enable_retries", 0)]
        with grpc.secure_channel(self.stack.address(self.part), credentials, options) as channel:
            stub = common_pb2_grpc.NodeServiceStub(channel)
            while not self.ended.is_set():
                begun = time.monotonic()
                try:
                    stub.GetInfo(common_pb2.GetInfoRequest(), timeout=30)
                except grpc.RpcError as error:
                    self.refused.append((begun, error.code()))
                    return
                self.answered += 1


@contextmanager
def under_load(stack: Stack, part: str, channels: int = 4):
    calls = Calls(stack, part, channels)
    with ThreadPoolExecutor(channels) as pool:
        for _ in range(channels):
            pool.submit(calls.one_after_another)
        time.sleep(0.5)
        try:
            yield calls
            time.sleep(1)
        finally:
            calls.ended.set()


NEWS_S = 0.25
"""Longest time that the news of a health is on its way on this host."""


def until_it_ends(stack: Stack, part: str) -> float:
    """When a service tells that it does not serve any more, which it does before it refuses calls."""
    with grpc.secure_channel(stack.address(part), stack.files_of("operator").channel_credentials()) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        with suppress(grpc.RpcError):
            for told in watch:
                if told.status != health_pb2.HealthCheckResponse.SERVING:
                    break
        return time.monotonic()


@each_service("physmem")
def test_sigterm_under_load(stack, expected, part):
    """Calls in flight are answered; later ones are refused, and the process ends well."""
    with ThreadPoolExecutor(1) as pool, under_load(stack, part) as calls:
        told = pool.submit(until_it_ends, stack, part)
        time.sleep(0.5)
        assert not told.done()
        signalled = time.monotonic()
        stack.compose("stop", part)
    assert told.result() > signalled
    assert calls.answered > 20
    assert {code for _, code in calls.refused} <= REFUSALS
    assert len(calls.refused) == calls.channels
    assert all(begun > told.result() - NEWS_S for begun, _ in calls.refused)
    state = stack.inspect(part)["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False)
    assert "stopped" in stack.logs(part).splitlines()[-1]
    assert_works_again(stack, expected)


@dataclass(frozen=True)
class LongCall:
    """A call that is in a service's core for a while."""

    begin: Callable[[Kernel], object]
    below: str = ""
    """Service that is paused meanwhile, and holds it up; empty: it takes a second by itself."""


LONG_CALLS = {
    "pager": LongCall(lambda kernel: kernel.pager.boot(PagerBoot([SwapDisk(24_000_000)], 24_000_000))),
    "physmem": LongCall(lambda kernel: kernel.physmem.vm_imgact_hold_page("late", 4, [0], 0), "pager"),
    "kstack": LongCall(lambda kernel: kernel.kstack.vm_thread_new([ThreadStack(77, 0)], 0), "physmem"),
    "scheduler": LongCall(lambda kernel: kernel.scheduler.boot(SchedulerBoot()), "kstack"),
}


@each_service("kstack")
def test_sigterm_while_a_long_call_is_in_the_core(stack, expected, part):
    """It is answered, well and before the service ends."""
    long = LONG_CALLS[part]
    with stack.system() as system, ThreadPoolExecutor(1) as pool:
        boot(system.kernel, ram_pages=4096)
        boot_kstack(system.kernel)
        if long.below:
            stack.pause(long.below)
        try:
            call = pool.submit(long.begin, system.kernel)
            time.sleep(0.2)
            run(["docker", "kill", "--signal", "TERM", stack.container(part)])
            assert not call.done()
        finally:
            if long.below:
                time.sleep(1)
                stack.compose("unpause", long.below)
        call.result(30)
    deadline = time.monotonic() + 15
    while (state := stack.inspect(part)["State"])["Status"] != "exited":
        assert time.monotonic() < deadline
    assert state["ExitCode"] == 0
    assert_works_again(stack, expected)


@each_service()
def test_stopped_in_a_run(stack, expected, part):
    assert_lost(run_through(stack, lambda: stack.compose("stop", part)), part, ENDED, UNREACHABLE)
    assert stack.inspect(part)["State"]["ExitCode"] == 0
    assert_works_again(stack, expected)


@pytest.mark.slow
def test_orchestrator_stopped_in_a_run(stack, expected):
    """Who follows the run gets its report so far."""
    stop = threading.Thread(target=stack.compose, args=("stop", "orchestrator"))
    result = run_through(stack, stop.start)
    stop.join()
    assert result.report["end"] == "paused"
    assert stack.inspect("orchestrator")["State"]["ExitCode"] == Exit.TERMINATED
    assert_works_again(stack, expected)


@pytest.mark.slow
def test_orchestrator_killed_in_a_run(stack, expected):
    with pytest.raises(ServiceLost) as lost:
        run_through(stack, lambda: run(["docker", "kill", stack.container("orchestrator")]))
    assert_told(str(lost.value), "orchestrator", ENDED, UNREACHABLE)
    with pytest.raises(BadInput, match="no vmglue system answers"):
        stack.client()
    assert_works_again(stack, expected)


@pytest.mark.slow
def test_orchestrator_paused_in_a_run(stack, expected):
    try:
        with pytest.raises(ServiceLost) as lost:
            run_through(stack, lambda: stack.pause("orchestrator"))
    finally:
        stack.compose("unpause", "orchestrator")
    assert_told(str(lost.value), "orchestrator", SILENT, UNREACHABLE)
    assert_works_again(stack, expected)


@pytest.mark.slow
def test_orchestrator_cut_off_in_a_run(stack, expected):
    network, container = f"{stack.name}_default", stack.container("orchestrator")
    try:
        with pytest.raises(ServiceLost) as lost:
            run_through(stack, lambda: run(["docker", "network", "disconnect", network, container]))
    finally:
        run(["docker", "network", "connect", "--alias", "orchestrator", network, container])
    assert_told(str(lost.value), "orchestrator", SILENT, UNREACHABLE, ENDED)
    assert_works_again(stack, expected)


REDIS_STRIKES = {
    "restarted with its data gone": (("compose", "restart", "redis"), ()),
    "killed": (("compose", "kill", "redis"), ("compose", "up", "--detach", "redis")),
    "paused": (("pause",), ("compose", "unpause", "redis")),
    "cut off": (("network", "disconnect"), ("network", "connect")),
}
"""What is done to it in the middle of a run, and what brings it back afterwards."""


@pytest.mark.parametrize(
    "strike", [pytest.param(name, marks=pytest.mark.slow if back else []) for name, (_, back) in REDIS_STRIKES.items()]
)
def test_redis_struck_in_a_run(stack, expected, strike, capsys):
    """It is a view: the run goes on to the same end, and a second after its return it shows what the services count.

    Where it returns within the run, it shows soon what they had counted by then, while they count on.
    """
    away, back = REDIS_STRIKES[strike]
    network, container = f"{stack.name}_default", stack.container("redis")

    def act(kind: str = "", *arguments: str) -> None:
        if kind == "compose":
            stack.compose(*arguments)
        elif kind == "pause":
            stack.pause("redis")
        elif kind == "network":
            run(["docker", kind, *arguments, *(["--alias", "redis"] * ("connect" in arguments)), network, container])

    caught_up = []
    with stack.system() as system, stack.client("viewer") as viewer:

        def strike_it() -> None:
            if back:
                act(*away)
            else:
                caught_up.append(until_caught_up(viewer, system.kernel, lambda: act(*away)))

        try:
            result = run_through(stack, strike_it)
        finally:
            act(*back)
        seconds = until_exact(system.kernel)
    with capsys.disabled():
        print(f"\nRedis {strike}: caught up in the run after {caught_up} s; all counters exact after {seconds:.2f} s")
    assert result.report["event_hash"] == expected
    assert seconds < EXACT_S
    assert len(caught_up) == (not back)
    assert all(caught < CATCH_UP_S for caught in caught_up)


EXACT_S = 1.0
"""Longest time between the return of Redis and exact counters."""


GROWING = ("vm.stats.vm.v_swappgsout", "vm.stats.vm.v_vm_faults", "vm.stats.sys.v_swtch")
"""Counters of pager, physmem and scheduler that never fall in a run."""
CATCH_UP_S = 2.0
"""Longest time between the return of Redis in a run and that it shows what was counted until then."""


def until_caught_up(viewer: MachineClient, kernel: Kernel, restart: Callable[[], object]) -> float:
    """Seconds from when Redis answers again until it shows no less than what the services had counted then."""
    with ThreadPoolExecutor(1) as pool:
        restarting = pool.submit(restart)
        while kernel.board.read(GROWING) is not None and not restarting.done():
            time.sleep(0.005)
        while kernel.board.read(GROWING) is None:
            time.sleep(0.005)
        begun = time.monotonic()
        counted = viewer.sysctls()
        assert counted["vm.stats.vm.v_vm_faults"][0] > 0
        while True:
            seconds = time.monotonic() - begun
            shown = kernel.board.read(GROWING) or {}
            if all(shown.get(name, -1) >= counted[name][0] for name in GROWING):
                break
            assert seconds < 30
        restarting.result()
    return seconds


def until_exact(kernel: Kernel) -> float:
    """Seconds from when Redis answers until it shows what all services count."""
    while kernel.board.read(["vm.kstacks"]) is None:
        time.sleep(0.01)
    begun = time.monotonic()
    while True:
        own = {}
        for port in kernel.ports().values():
            counters = port.counters()
            own |= dict(zip(counters.names, counters.values, strict=True))
        assert len(own) > 50
        seconds = time.monotonic() - begun
        if kernel.board.read(list(own)) == own:
            return seconds
        assert seconds < 30


@pytest.mark.slow
def test_full_disk_under_the_swap_file(built, expected, tmp_path):  # noqa: ARG001 - the images must be there
    """Pages that the host does not take stay in memory: the machine suffers, and no page is lost."""
    small = Stack(tmp_path / "clients", Path(__file__).parent / "full-disk.yml")
    try:
        small.up()
        report = run_through(small).report
        with small.system() as system:
            counters = system.kernel.pager.counters()
        assert dict(zip(counters.names, counters.values, strict=True))["vmglue.pager.io_errors"] > 0
        (refusal, *_) = (line for line in small.logs("pager").splitlines() if "not serving" in line)
        assert "the swap file: No space left on device" in refusal
        assert report["integrity"]["pages_checked"] > 100
        assert report["integrity"]["mismatches"] == 0
        assert (report["end"], report["end_detail"]) == ("complete", "")
        assert report["event_hash"] != expected
        small.up()  # writes succeed again, and all are healthy
    finally:
        small.compose("down", "--volumes", "--timeout", "5")
