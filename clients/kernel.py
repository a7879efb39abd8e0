"""A whole kernel as its four ports, composed in one process or reached over gRPC."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from services.ports.kstack import KstackPort
from services.ports.pager import PagerPort
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import SchedulerPort
from services.runtime.binding import connect, local
from services.runtime.context import Context
from services.runtime.counters import CounterBoard, MemoryBoard
