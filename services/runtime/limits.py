"""Everything that a caller could make grow, and how far; beyond, a call ends with RESOURCE_EXHAUSTED."""

from __future__ import annotations

MESSAGE_BYTES_MAX = 64 << 20
"""Largest message that a service takes or a caller accepts."""
BATCH_ITEMS_MAX = 1 << 20
"""Items of one list in a request: threads, ranges, pages, records."""
CONCURRENT_RPCS_MAX = 64
"""Calls of one server at once, waiting ones included."""
WORKERS = 8
"""Threads of a service that answer calls: one is in the core at a time, the others wait or tell about the process."""
WATCHERS_MAX = 32
"""Threads of a process for those who watch its health; further ones wait."""
MACHINE_WORKERS = 24
"""Threads that answer calls of machine.proto; a stream holds one."""
STREAMS_MAX = 16
"""Streams of machine.proto at once (runs that are followed, events that are watched): the other threads stay free."""
VIEWER_STREAMS_MAX = 4
"""Streams that all viewers of one service have open at once, of reflection and of health."""
MACHINE_VIEWER_STREAMS_MAX = 8
"""The same of machine.proto, watched events included: the rest of STREAMS_MAX is for operators."""
REFLECTION_IDLE_S = 10.0
"""Time after which a reflection stream ends on which nothing is asked: it holds a thread."""
KEPT_ANSWERS = 4096
"""Answers of changing calls that are kept for repeats."""
KEPT_BYTES = 32 << 20
"""Bytes that they may hold together; beyond, the oldest go early. A repeat follows its call within seconds."""
SWAP_DEVICES_MAX = 16
"""Swap devices of a machine, each with a file of its own."""
KEPT_RUNS_BYTES = 128 << 20
"""References that physmem keeps, so that they are not sent again; beyond, those not used for longest go."""
UPLOAD_BYTES_MAX = 1 << 30
"""All traces of one uploaded workload together."""
UPLOAD_FILES_MAX = 256
"""Files of one uploaded workload."""
CHECKPOINT_BYTES_MAX = 2 << 30
"""Largest checkpoint of a service, and the largest of a machine that machine.proto gives out or takes in."""
CHECKPOINT_OF_MEMORY = 4
"""A checkpoint, packed or unpacked, may be one part in so many of the memory that the process has left."""
EVENTS_KEPT = 1 << 20
"""Events that each service keeps for whoever watches; a watcher who falls further behind is told, and ended."""
SUSPENDED_TOLD_MAX = 100
"""Suspended operations that a service tells at once; it says how many there are."""
EVENTS_PER_MESSAGE_MAX = 8192
"""Events in one message: 512 KiB."""
SCRAPERS_MAX = 8
"""Connections to the port of metrics at once; it closes further ones."""
SCRAPE_S = 5.0
"""Longest silence of a scraper, its handshake included."""
