"""Run control: a workload on a kernel from boot to report, with sampling, pauses and limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clients.event_file import EventRecorder
from clients.kernel import Kernel
from clients.orchestrator import InvariantViolated, Orchestrator
from clients.profile import Profile
from clients.report import Ending, Sample, Samples, build_report, take_sample
from clients.workload import Workload
from services.ports.scheduler import DispatchKind
from services.runtime.errors import KernelPanic

SAMPLE_INTERVAL_S = 0.002
"""Shortest wall time between two samples."""
SAMPLE_SHARE = 20
"""Between two samples passes at least so many times what one costs: sampling takes at most a twentieth of a run."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    sample: Sample
    """Pages, swap and processes at the last sample."""
    now_us: int = 0
    """Virtual time, in microseconds."""
    wall_us: int = 0
    """Wall time of the run so far, in microseconds."""
    references: int = 0
    """Original memory references executed."""
    run_records: int = 0
    """Run records executed."""
    dispatches: int = 0
    """Slices given to the processor."""
    rpcs: int = 0
    """Calls made to the services."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Where to pause."""

    until_us: int = 0
    """Virtual time, in microseconds; 0: none."""
    dispatches: int = 0
    """Number of the slice in front of which to pause, counted from boot; 0: none."""

    def reached(self, orchestrator: Orchestrator) -> bool:
        """The next slice is behind the limit."""
        return 0 < self.until_us <= orchestrator.dispatch.now_us or 0 < self.dispatches <= orchestrator.tally.dispatches


@dataclass(slots=True)
class Run:
    """One workload on one kernel.

    Attributes:
        kernel: The four services.
        workload: Machine and programs.
        check: Ask every service for its invariants after every batch.
        profile: What times the calls of this run; None: nothing does.
        recorder: Where events are recorded on the way; None: nowhere.
        orchestrator: What executes it.
        samples: Series for the plots.
        detail: One sentence about an early end.
        panic: The panic that ended it.
        wall_s: Wall time spent executing, pauses not included.
    """

    kernel: Kernel
    workload: Workload
    check: bool = False
    recorder: EventRecorder | None = None
    profile: Profile | None = None
    orchestrator: Orchestrator = field(init=False)
    samples: Samples = field(default_factory=Samples)
    detail: str = ""
    panic: KernelPanic | None = None
    wall_s: float = 0
    _resumed: float | None = None
    _due: float = 0

    def __post_init__(self) -> None:
        self.orchestrator = Orchestrator(self.kernel, self.workload, self.check)

    def boot(self) -> None:
        """Boot the machine with the workload.

        Raises:
            Refused: A sysctl of the workload is unknown or its value is refused.
            ServiceLost: A service cannot be reached.
        """
        self.orchestrator.boot()

    def execute(
        self,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[Progress], None] = lambda _: None,
        limit: Limit | None = None,
    ) -> Ending:
        """Execute until the end, until `stop` says so, or until a limit; may be called again after a pause.

        Args:
            stop: Asked between two dispatches; True ends the run.
            progress: Called after every sample.
            limit: Where to pause.

        Raises:
            ServiceLost: A service cannot be reached any more.
        """
        if self.profile is not None:
            self.profile.begin()
        self._resumed = time.monotonic()
        try:
            with self.kernel.span(f"run {self.workload.name}"):
                return self._execute(stop, progress, limit or Limit())
        except KernelPanic as panic:
            self.panic, self.detail = panic, describe_panic(panic)
            return Ending.PANIC
        except InvariantViolated as violation:
            self.detail = str(violation)
            return Ending.INVARIANT
        finally:
            self.wall_s, self._resumed = self._wall_s(), None
            if self.profile is not None:
                self.profile.end()

    def progress(self) -> Progress:
        """Where the run is; asks nobody, pages and processes are those of the last sample."""
        tally = self.orchestrator.tally
        return Progress(
            sample=self.samples.last,
            now_us=self.orchestrator.dispatch.now_us,
            wall_us=round(self._wall_s() * 1e6),
            references=tally.references,
            run_records=tally.run_records,
            dispatches=tally.dispatches,
            rpcs=self.kernel.calls(),
        )

    def report(self, ending: Ending) -> dict[str, Any]:
        """The report of what was executed; at an early end the pages of living processes are compared, too."""
        if ending in (Ending.INTERRUPTED, Ending.DEADLOCK):
            self.orchestrator.verify_living()
        self.samples.close(take_sample(self.kernel, self.orchestrator.dispatch.now_us))
        if self.recorder is not None:
            self.recorder.collect(self.kernel)
        report = build_report(self.orchestrator, self.samples, self.wall_s, ending, self.detail)
        if self.profile is not None:
            report["profile"] = self.profile.rows(self.wall_s)
            report["wall_split"] = self.profile.split()
            report["processor_seconds"] = self.profile.processor_s()
        return report

    def ending(self) -> Ending:
        """How it stands between two slices: panicked, complete, deadlocked, or else paused."""
        if self.panic is not None:
            return Ending.PANIC
        if self.orchestrator.dispatch.kind in (DispatchKind.FINISHED, DispatchKind.DEADLOCK):
            return self._ended()
        return Ending.PAUSED

    def _execute(self, stop: Callable[[], bool], progress: Callable[[Progress], None], limit: Limit) -> Ending:
        orchestrator = self.orchestrator
        while not stop():
            if limit.reached(orchestrator):
                return Ending.PAUSED
            if not orchestrator.step():
                return self._ended()
            if time.monotonic() >= self._due:
                self._sample()
                progress(self.progress())
        return Ending.INTERRUPTED

    def _ended(self) -> Ending:
        if self.orchestrator.dispatch.kind is DispatchKind.FINISHED:
            return Ending.COMPLETE
        self.detail = self.orchestrator.dispatch.reason
        return Ending.DEADLOCK

    def _sample(self) -> None:
        begun = time.monotonic()
        self.samples.add(take_sample(self.kernel, self.orchestrator.dispatch.now_us))
        if self.recorder is not None:
            self.recorder.collect(self.kernel)
        ended = time.monotonic()
        self._due = ended + max(SAMPLE_INTERVAL_S, SAMPLE_SHARE * (ended - begun))

    def _wall_s(self) -> float:
        return self.wall_s + (time.monotonic() - self._resumed if self._resumed is not None else 0)


def describe_panic(panic: KernelPanic) -> str:
    """A panic in one line: text, C function, and its line in vm_glue.c or "beside vm_glue.c"."""
    where = f"vm_glue.c:{panic.line}" if panic.line else "beside vm_glue.c"
    return f"panic: {panic.text} ({panic.function}, {where})"
