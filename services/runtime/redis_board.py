"""The board of the distributed wiring: counters and event streams in Redis, one key a counter.

Each service is the truth of its own counters and publishes absolute values before it answers, all of a call in one
round trip of a script. The script is guarded by (boot id, sequence): a repeated publication, one of an older process,
or one that builds on values which Redis no longer has, changes nothing. While Redis is away calls go on unpublished;
a watching thread publishes everything again when it is back.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.runtime.context import Context
from services.runtime.events import RECORD, EventLog
from services.runtime.redis_script import RedisScript
from services.runtime.redis_url import with_password

MAXIMA = frozenset({"debug.max_kstack_used"})
"""Counters that are shared maxima: a publication raises them and never lowers them."""
TIMEOUT_S = 0.5
"""Longest time that a round trip may hold up a call."""
EVENTS_PER_CALL_MAX = 512
"""Events of one call that go to the stream, the newest; the others are in the recording alone."""
STREAM_ENTRIES_MAX = 512
"""Entries (calls) that a stream keeps, about."""
WATCH_AWAY_S = 0.2
"""Interval at which a Redis that went away is looked for."""
WATCH_S = 0.8
"""Interval at which a Redis that answers is asked whether it still has the counters: so they are back in a second."""

_PUBLISH = """
local boot, sequence, previous, mode, maxima = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local guard = redis.call('GET', KEYS[1])
local held = guard and string.sub(guard, 1, 20) or ''
if held > boot then return 'newer' end
if held == boot and mode == 'changed' and string.sub(guard, 22) >= sequence then return 'published' end
if mode == 'changed' and guard ~= boot .. ':' .. previous then return 'behind' end
local raised = {}
if mode ~= 'reset' then
  for i = #KEYS - maxima + 1, #KEYS do raised[i] = tonumber(redis.call('GET', KEYS[i]) or '') end
end
if mode ~= 'changed' then
  local names = redis.call('SMEMBERS', KEYS[2])
  for i = 1, #names do redis.call('DEL', names[i]) end
  redis.call('DEL', KEYS[2])
  if mode == 'reset' then redis.call('DEL', KEYS[3]) end
  for i = 4, #KEYS do redis.call('SADD', KEYS[2], KEYS[i]) end
end
local set = {KEYS[1], boot .. ':' .. sequence}
for i = 4, #KEYS do
  local value = ARGV[i + 5]
  if raised[i] and raised[i] > tonumber(value) then value = raised[i] end
  set[#set + 1], set[#set + 2] = KEYS[i], value
end
redis.call('MSET', unpack(set))
if #ARGV[8] > 0 then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'first', ARGV[7], 'records', ARGV[8])
end
return 'published'
"""


def open_redis(url: str) -> redis.Redis:
    """A client that never waits long and never reconnects behind its user's back.

    Raises:
        OSError: The URL names a file with the password, which cannot be read.
    """
    return redis.Redis.from_url(
        with_password(url),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


class RedisBoard:
    """Counters and event streams of one machine in Redis; one service publishes, anybody reads."""

    def __init__(self, url: str, machine: str, boot_id: int = 0) -> None:
        self._prefix = f"vmglue:{machine}:"
        self._boot = f"{boot_id:020}"
        self._redis, self._watch_redis = open_redis(url), open_redis(url)
        self._script = RedisScript(self._redis, _PUBLISH)
        self._keys: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None
        self._log = structlog.get_logger(board="redis")
        self._service = ""
        self._values: dict[str, int] = {}
        self._sequence = 0
        self._events: EventLog | None = None
        self._next_event = 0
        self.degraded = False
        """Counters are not published at the moment."""
        self._away_since = 0.0
        self.superseded = False
        """A newer process publishes in this one's place."""

    def attach(self, ctx: Context) -> None:
        """Announce the one service of this process and start to watch Redis for it."""
        assert not self._service, "a board publishes for one service"
        self._service = ctx.service
        with self._lock:
            self._send("reset", list(self._values), 0, b"")
        self._watcher = threading.Thread(target=self._watch, name="redis-watch", daemon=True)
        self._watcher.start()

    def publish(self, ctx: Context) -> None:
        """Publish what a call changed; never raises and never blocks beyond a short timeout."""
        with self._lock:
            mode, names = self._changes(ctx)
            first, records = self._new_events(ctx)
            if not names and not records and mode == "changed":
                return
            self._sequence += 1
            ctx.sequence = self._sequence
            if not self.degraded:
                self._send(mode, names, first, records)

    def read(self, names: Sequence[str]) -> dict[str, int] | None:
        """Values by sysctl name, unknown names left out; None: Redis is away."""
        if not names:
            return {}
        try:
            values = self._redis.mget([self._prefix + name for name in names])
        except (redis.RedisError, OSError):
            return None
        return {name: int(value) for name, value in zip(names, values, strict=True) if value is not None}

    def read_fresh(
        self, service: str, names: Sequence[str], sequence: int, boot_id: int | None
    ) -> dict[str, int] | None:
        """Values that a service published at `sequence` or later; None: Redis is behind or away.

        Args:
            service: Who publishes them.
            names: Sysctl names; one that was never counted is 0.
            sequence: Oldest acceptable publication.
            boot_id: Life of the process that must have published them; None: any.
        """
        try:
            guard, *values = self._redis.mget([self._guard(service), *(self._prefix + name for name in names)])
        except (redis.RedisError, OSError):
            return None
        if not isinstance(guard, bytes):
            return None
        boot, _, published = guard.decode().partition(":")
        if int(published) < sequence or (boot_id is not None and int(boot) != boot_id):
            return None
        return {name: int(value or 0) for name, value in zip(names, values, strict=True)}

    def lag_ms(self) -> int:
        """Time since which values may be missing in Redis, in milliseconds; 0: they are all there."""
        return round((monotonic() - self._away_since) * 1000) if self.degraded else 0

    def close(self) -> None:
        """End the watching thread and close the connections."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
        self._script.close()
        self._redis.close()
        self._watch_redis.close()

    def _guard(self, service: str) -> str:
        return f"{self._prefix}publication:{service}"

    def _changes(self, ctx: Context) -> tuple[str, list[str]]:
        """Take over the service's counters; how they are to be published, and which."""
        old, new = self._values, ctx.counters
        if ctx.log is not self._events:
            self._events, self._next_event, mode = ctx.log, 0, "reset"
        elif old == new:
            return "changed", []
        else:
            mode = "changed" if old.keys() == new.keys() else "all"
        names = [name for name, value in new.items() if mode != "changed" or old[name] != value]
        self._values = dict(new)
        return mode, names

    def _new_events(self, ctx: Context) -> tuple[int, bytes]:
        """Sequence number of the first and the records of the newest events that were not published."""
        total = ctx.log.count
        if total == self._next_event:
            return total, b""
        first, records = ctx.log.since(max(self._next_event, total - EVENTS_PER_CALL_MAX), EVENTS_PER_CALL_MAX)
        self._next_event = total
        assert len(records) == (total - first) * RECORD.size
        return first, records

    def _send(self, mode: str, names: list[str], first: int, records: bytes) -> None:
        """Run the script, with all values if Redis lacks the earlier ones."""
        if self.superseded:
            return
        try:
            answer = self._run(mode, names, first, records)
            if answer == b"behind":
                answer = self._run("all", list(self._values), first, records)
        except (redis.RedisError, OSError) as error:
            self._degrade(error)
            return
        if answer == b"newer":
            self.superseded = True
            self._log.error("a newer process publishes this service's counters", service=self._service)

    def _run(self, mode: str, names: list[str], first: int, records: bytes) -> bytes:
        maxima = [name for name in names if name in MAXIMA]
        if maxima:
            names = [name for name in names if name not in MAXIMA] + maxima
        values = self._values
        head = [
            self._boot.encode(),
            b"%020d" % self._sequence,
            b"%020d" % (self._sequence - 1),
            mode.encode(),
            b"%d" % len(maxima),
            b"%d" % STREAM_ENTRIES_MAX,
            b"%d" % first,
            records,
        ]
        own = [f"publication:{self._service}", f"names:{self._service}", f"events:{self._service}"]
        return self._script.run([self._key(name) for name in own + names], head + [b"%d" % values[n] for n in names])

    def _key(self, name: str) -> bytes:
        """A name under this machine's prefix."""
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = f"{self._prefix}{name}".encode()
        return key

    def _degrade(self, error: Exception) -> None:
        if not self.degraded:
            self._away_since = monotonic()
            self._log.warning("redis is away; counters are published when it is back", error=str(error))
        self.degraded = True

    def _watch(self) -> None:
        """Look every now and then whether Redis has the counters; publish all of them where it has not."""
        while not self._closing.wait(WATCH_AWAY_S if self.degraded else WATCH_S):
            try:
                guard = self._watch_redis.get(self._guard(self._service))
            except (redis.RedisError, OSError) as error:
                self._degrade(error)
                continue
            with self._lock:
                if self.degraded or guard is None:
                    self._restore()

    def _restore(self) -> None:
        was_degraded, self.degraded = self.degraded, False
        self._send("all", list(self._values), self._next_event, b"")
        if was_degraded and not self.degraded:
            self._log.info("redis is back; all counters are published")
