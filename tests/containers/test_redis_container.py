"""Counters alone, in the Redis of the compose file: exact, and exact again after it was away or lost them."""

from __future__ import annotations

import time

import pytest
from conftest import free_port, need_engine

from services.runtime.context import Context
from services.runtime.redis_board import TIMEOUT_S, RedisBoard

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]
BACK_S = 1.0
"""Longest time until a Redis that is back shows the counters."""


@pytest.fixture(scope="module")
def container():
    need_engine()
    from testcontainers.community.redis import RedisContainer

    with RedisContainer("redis:7-bookworm").with_bind_ports(6379, free_port()) as started:
        yield started


@pytest.fixture
def service(container, request):
    """A service's context, and its board in the container."""
    url = f"redis://127.0.0.1:{container.get_exposed_port(6379)}/0"
    ctx, board = Context("kstack"), RedisBoard(url, request.node.name, 100)
    ctx.counters.update({"vm.kstacks": 1, "vm.other": 5})
    board.attach(ctx)
    board.publish(ctx)
    yield ctx, board
    board.close()


def assert_exact_within(seconds: float, ctx: Context, board: RedisBoard) -> None:
    while board.read(["vm.kstacks"]) is None:  # the engine says that it is back before it is
        time.sleep(0.01)
    deadline = time.monotonic() + seconds
    while board.degraded or board.read(list(ctx.counters)) != ctx.counters:
        assert time.monotonic() < deadline, (board.degraded, board.read(list(ctx.counters)))
        time.sleep(0.02)


def test_what_is_published_is_read(service):
    ctx, board = service
    for kstacks in range(2, 50):
        ctx.counters["vm.kstacks"] = kstacks
        board.publish(ctx)
        assert board.read(list(ctx.counters)) == ctx.counters
    assert not board.degraded


def test_redis_frozen_and_back(container, service):
    ctx, board = service
    engine = container.get_wrapped_container()
    engine.pause()
    try:
        ctx.counters["vm.kstacks"] = 77
        begun = time.monotonic()
        board.publish(ctx)
        board.publish(ctx)
        assert time.monotonic() - begun < 3 * TIMEOUT_S
        assert board.degraded
    finally:
        engine.unpause()
    assert_exact_within(BACK_S, ctx, board)


def test_redis_restarted_without_its_data(container, service):
    ctx, board = service
    container.get_client().config_set("save", "")
    container.get_wrapped_container().restart(timeout=1)
    assert_exact_within(BACK_S, ctx, board)


def test_redis_emptied(container, service):
    ctx, board = service
    container.get_client().flushall()
    ctx.counters["vm.kstacks"] = 9
    board.publish(ctx)
    assert board.read(list(ctx.counters)) == ctx.counters
