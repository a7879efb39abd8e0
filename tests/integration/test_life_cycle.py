"""A service among others: what its health says, and what callers are told of one that was lost or restarted."""

from __future__ import annotations

import re
import time

import pytest
from systems import Fleet, start_system, until

from clients.checkpoint import restore, take
from clients.embedded_redis import EmbeddedRedis
from clients.health import service_state
from clients.run import Limit, Run
from clients.system import System, SystemConfig
from clients.workload import load_workload
from services.ports.pager import PagerBoot, PagerPort, SwapDisk
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused, ServiceLost
from services.runtime.remote import Caller, connect, node_info

KSTACK = ("-m", "services.kstack")
PHYSMEM = ("-m", "services.physmem")
CROWDED = """
import time
from services.ports.common import Digest, Empty
from services.ports.kstack import KstackPort
from services.runtime.server import main

class Slow:
    def boot(self, config):
        return Empty()
    def digest(self):
        time.sleep(0.02)
        return Digest(state=b"late")
    def __getattr__(self, name):
        if name in ("close", "trouble"):
            raise AttributeError(name)
        return lambda *_: None

main(KstackPort, lambda process: Slow())
"""


def test_health_goes_with_the_services_below_and_comes_back(start):
    pager = start(name="pager").wait()
    physmem = start("--upstream", f"pager={pager.address}", command=PHYSMEM, name="physmem").wait()
    kstack = start("--upstream", f"physmem={physmem.address}", command=KSTACK, name="kstack").wait()
    assert physmem.health("physmem.pager") == "SERVING"
    pager.end()
    until(lambda: physmem.health() == "NOT_SERVING" and kstack.health() == "NOT_SERVING")
    assert physmem.health("vmglue.physmem.v1.PhysmemService") == "NOT_SERVING"
    assert physmem.health("physmem.pager") == kstack.health("kstack.physmem") == "NOT_SERVING"
    assert node_info(physmem.channel, "physmem").trouble == "pager does not serve"
    start(name="pager").wait()
    until(lambda: physmem.health() == "SERVING" and kstack.health() == "SERVING")
    assert node_info(kstack.channel, "kstack").trouble == ""
    status, log = physmem.end()
    assert status == 0
    assert log.index("not serving") < log.rindex("serving  ")


def test_a_restarted_service_is_named_with_the_time_and_what_to_do(start):
    caller = Context("orchestrator")
    pager = start(name="pager").wait()
    port = connect(PagerPort, pager.channel, Caller(caller, "m"))
    port.boot(PagerBoot(swap_devices=[SwapDisk(100)], page_count=1000))
    pager.end()
    second = start(name="pager").wait()
    with pytest.raises(ServiceLost) as lost:
        connect(PagerPort, second.channel, Caller(caller, "m")).vnode_open("x", 1)
    assert re.fullmatch(
        r"pager restarted at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; the machine's memory is gone; "
        r"load a checkpoint or run the workload anew",
        lost.value.why,
    )


def test_more_calls_than_a_service_takes_are_exhausted_and_the_others_answered(start):
    service = start(command=("-c", CROWDED)).wait()
    from protos import kstack_pb2, kstack_pb2_grpc

    stub = kstack_pb2_grpc.KstackServiceStub(service.channel)
    stub.Boot(kstack_pb2.BootRequest())
    calls = [stub.Digest.future(kstack_pb2.DigestRequest(), timeout=20) for _ in range(200)]
    codes = [call.code().name for call in calls]
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert codes.count("OK") >= 64
    assert stub.Digest(kstack_pb2.DigestRequest()).state == b"late"


def test_a_message_that_is_too_large_is_exhausted(start):
    service = start().wait()
    port = connect(PagerPort, service.channel, Caller(Context("orchestrator"), "m"))
    port.boot(PagerBoot(swap_devices=[SwapDisk(100)], page_count=1000))
    with pytest.raises(Refused) as refused:
        port.vnode_open("x" * (65 << 20), 1)
    assert refused.value.reason is Reason.QUOTA
    assert port.swap_status().avail == 100


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    started = Fleet(tmp_path_factory.mktemp("fleet"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def whole():
    """The hash of tiny in one process."""
    with start_system("local") as here:
        run = Run(here.kernel, load_workload("tiny"))
        run.boot()
        return run.report(run.execute())["event_hash"]


@pytest.mark.parametrize("name", ["pager", "physmem", "scheduler"])
def test_a_run_goes_on_from_its_checkpoint_after_a_service_lost_its_memory(fleet, whole, name):
    with System.join(fleet.addresses, SystemConfig()) as system:
        run = Run(system.kernel, load_workload("tiny"))
        run.boot()
        run.execute(limit=Limit(dispatches=300))
        file = take(run)
        fleet.restart(name)
        with pytest.raises(ServiceLost) as lost:
            run.execute()
        assert f"{name} restarted at" in lost.value.why
        assert "load a checkpoint" in lost.value.why
        again = restore(system.kernel, file)
        report = again.report(again.execute())
    assert report["end"] == "complete"
    assert report["event_hash"] == whole


def test_redis_may_go_and_come_back_in_the_middle_of_a_run(whole, tmp_path):
    redis = EmbeddedRedis.start(tmp_path)
    try:
        with System.start(SystemConfig(machine="m", redis=redis.url)) as system:
            run = Run(system.kernel, load_workload("tiny"))
            run.boot()
            run.execute(limit=Limit(dispatches=200))
            redis.close()
            run.execute(limit=Limit(dispatches=500))
            assert service_state(system.addresses["scheduler"]).health == "SERVING"
            until(lambda: service_state(system.addresses["scheduler"]).info.board == "degraded")
            assert service_state(system.addresses["scheduler"]).info.board_lag_ms > 0
            redis = EmbeddedRedis.start(tmp_path)
            time.sleep(1.0)
            for port in system.kernel.ports().values():
                own = port.counters()
                assert system.kernel.board.read(own.names) == dict(zip(own.names, own.values, strict=True))
            assert service_state(system.addresses["scheduler"]).info.board_lag_ms == 0
            assert run.report(run.execute())["event_hash"] == whole
    finally:
        redis.close()
