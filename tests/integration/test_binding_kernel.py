"""The real cores behind both bindings: the same answers, the same events, exact counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clients.kernel import SERVICES, connect_kernel
from clients.system import System, SystemConfig
from services.ports.common import Setting
from services.ports.kstack import KstackBoot, ThreadStack
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.physmem import AccessCheck, MapOp, PhysmemBoot
from services.ports.scheduler import SchedulerBoot
from services.runtime.errors import ServiceLost
from services.runtime.redis_board import open_redis

FREE = "vm.stats.vm.v_free_count"


def boot(kernel):
    kernel.ctx.reboot(1000, 0, allow_inject=False)
    kernel.pager.boot(PagerBoot(swap_devices=[SwapDisk(256)], page_count=4096))
    kernel.physmem.boot(PhysmemBoot(ram_pages=4096, seed=7))
    kernel.kstack.boot(KstackBoot())
    kernel.scheduler.boot(SchedulerBoot(page_count=4096))


def exercise(kernel, between=lambda: None):
    """Some calls over all layers; their answers and the services' digests."""
    boot(kernel)
    answers = []
    for step in range(6):
        kernel.ctx.now_us = 1000 * step
        space = kernel.physmem.vmspace_alloc(0, 0).vmspace
        answers += [
            kernel.kstack.vm_thread_new([ThreadStack(900 + step, 0), ThreadStack(950 + step, 7)], 0),
            kernel.physmem.map_ops(space, [MapOp(start=0x400000, size=0x4000), MapOp(start=0x400000, size=0x1000)], 0),
            kernel.physmem.useracc(space, [AccessCheck(0x400000, 0x4000, 3), AccessCheck(0x400000, 0x4001, 3)]),
            kernel.physmem.vslock(space, 0x400000, 0x2000, 0),
            kernel.ctx.read_counters("physmem", [FREE, "vm.stats.vm.v_wire_count"]),
            kernel.kstack.vm_thread_dispose([900 + step]),
            kernel.ctx.take_upcalls(),
        ]
        between()
    return answers, {name: port.digest() for name, port in kernel.ports().items()}


@pytest.fixture(scope="module")
def distributed():
    with System.start(SystemConfig()) as system:
        yield system


@pytest.fixture(params=["local", "grpc"])
def kernel(request):
    if request.param == "local":
        with System.local() as system:
            yield system.kernel
    else:
        yield request.getfixturevalue("distributed").kernel


def test_wirings_answer_alike_and_redis_may_lose_everything(distributed):
    with System.local() as system:
        expected = exercise(system.kernel)
    redis = open_redis(distributed.redis)
    assert exercise(distributed.kernel) == expected
    assert exercise(distributed.kernel, between=redis.flushall) == expected
    redis.close()


def test_counters_on_the_board_are_the_owners(kernel):
    exercise(kernel)
    kernel.kstack.sysctl_set(Setting("vm.kstack_cache_size", 3))
    for port in kernel.ports().values():
        own = port.counters()
        assert kernel.board.read(own.names) == dict(zip(own.names, own.values, strict=True))


def test_a_kernel_tells_about_its_services(kernel):
    boot(kernel)
    assert tuple(kernel.ports()) == SERVICES
    rows = kernel.service_rows()
    assert [row["name"] for row in rows] == list(SERVICES)
    assert sum(row["pss_bytes"] for row in rows) > 1 << 20
    assert all(row["pid"] > 0 and row["address"] for row in rows)
    before = kernel.calls()
    kernel.pager.swap_status()
    assert kernel.calls() == before + 1


def test_every_service_tells_where_its_wall_time_went(kernel):
    boot(kernel)
    before, waited_s = {name: replace(wall) for name, wall in kernel.wall_times().items()}, kernel.ctx.wall.below_s
    kernel.kstack.vm_thread_new([ThreadStack(900, 0)], 0)
    after, waited_s = kernel.wall_times(), kernel.ctx.wall.below_s - waited_s
    grown = {name: after[name].core_s - before[name].core_s for name in SERVICES}
    waited = {name: after[name].below_s - before[name].below_s for name in SERVICES}
    assert waited_s > grown["kstack"] > waited["kstack"] > grown["physmem"] > waited["physmem"]
    assert grown["scheduler"] == waited["scheduler"] == 0
    assert after["kstack"].board_s > before["kstack"].board_s


def test_services_that_are_not_there_are_rows_without_a_process(tmp_path):
    kernel = connect_kernel({name: f"unix:{tmp_path}/{name}.sock" for name in SERVICES})
    assert kernel.service_rows()[1] == {
        "name": "physmem",
        "pid": 0,
        "address": f"unix:{tmp_path}/physmem.sock",
        "pss_bytes": 0,
    }
    assert kernel.board.read([FREE]) is None
    with pytest.raises(ServiceLost, match="physmem was lost"):
        kernel.physmem.counters()
    kernel.close()
