"""The orchestrator: firmware and processors. It boots the services, issues references and hands outcomes on unread."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.arrivals import starts
from clients.identities import violated_by
from clients.integrity import Shadow
from clients.kernel import Kernel
from clients.made import made_trace
from clients.references import References
from clients.scaled import scaled
from clients.streams import Stream, StreamState
from clients.trace import PAGE_SHIFT, Trace
from clients.workload import Program, Workload, check_sysctls
from clients.workload_model import CLASSES
from hardware_sim.arch import arch
from hardware_sim.clock import initial_ticks
from services.ports.common import Outcome, Setting, Stop, Upcalls
from services.ports.kstack import KstackBoot
from services.ports.pager import PagerBoot
from services.ports.physmem import PhysmemBoot
from services.ports.scheduler import (
    Dispatch,
    DispatchKind,
    SchedulerBoot,
    SpaceEvent,
    SpaceNotice,
    SpawnRequest,
    Trap,
    TrapOp,
)
from services.runtime.errors import Reason, Refused
from services.scheduler.syscalls import SHMAT

_IDLE_LIMIT_US = 60_000_000
"""Virtual time that one call of the scheduler may pass before it answers, so that a long sleep shows progress."""


_IDENTITIES_EVERY = 32
"""Checks between two comparisons of the counters with one another, which cost more than all else in a check."""


class InvariantViolated(Exception):
    """`--check` found the machine's state inconsistent; the text names service, invariant and dispatch."""


@dataclass(slots=True)
class Tally:
    """What the orchestrator counts by itself."""

    references: int = 0
    run_records: int = 0
    dispatches: int = 0
    batches: int = 0
    checks: int = 0
    torn: int = 0
    tlb_misses: int = 0


@dataclass(slots=True)
class OrchestratorState:
    """What an orchestrator knows between two slices, for checkpoints."""

    tally: Tally
    """What it counted."""
    shadow: Shadow
    """Expected contents of all pages."""
    dispatch: Dispatch
    """The slice that is executed next."""
    streams: dict[int, StreamState]
    """Where each stream stands, by cookie."""
    upcalls: Upcalls
    """Up-calls that the scheduler has not heard of yet."""
    now_us: int
    """Virtual time of the next call, in microseconds."""
    ticks: int
    """`ticks` at that time."""


@dataclass(slots=True)
class Orchestrator:
    """One run of a workload on a kernel.

    Attributes:
        kernel: The four services.
        workload: Machine and programs.
        check: Ask every service for its invariants after every batch.
        shadow: Expected contents of all pages.
        dispatch: The slice that is executed next.
    """

    kernel: Kernel
    workload: Workload
    check: bool = False
    tally: Tally = field(default_factory=Tally)
    shadow: Shadow = field(init=False)
    _references: References = field(init=False)
    dispatch: Dispatch = field(default_factory=Dispatch)
    _streams: dict[int, Stream] = field(default_factory=dict)
    _traces: dict[tuple[Path, int], Trace] = field(default_factory=dict)
    _files: dict[Path, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shadow, self._references = Shadow(self.workload.machine.seed), References(self.kernel)

    def boot(self) -> None:
        """Boot the services from the bottom up, set the sysctls, start the programs.

        Raises:
            WorkloadError: The kernel has no such sysctl.
            Refused: A sysctl is read-only, or its value is refused.
        """
        machine = self.workload.machine
        hardware = arch(machine.arch)
        pages = machine.ram // hardware.page_size
        common: dict[str, Any] = {"hz": machine.hz, "start_ticks": initial_ticks(machine.hz)}
        kernel = self.kernel
        kernel.ctx.reboot(machine.hz, common["start_ticks"], allow_inject=False)
        kernel.pager.boot(PagerBoot(swap_devices=list(machine.swap), page_count=pages, seed=machine.seed, **common))
        kernel.physmem.boot(
            PhysmemBoot(
                ram_pages=pages,
                arch=machine.arch,
                seed=machine.seed,
                mips=machine.mips,
                kstack_guard_pages=machine.kstack_guard_pages,
                kstack_max_pages=machine.kstack_max_pages,
                no_swapping=machine.no_swapping,
                preempt_seed=machine.preempt_seed,
                without_invariants=not machine.invariants,
                ncpu=machine.ncpu,
                **common,
            )
        )
        guard = machine.kstack_guard_pages
        kernel.kstack.boot(
            KstackBoot(
                kstack_pages=machine.kstack_pages or hardware.kstack_pages,
                kstack_guard_pages=hardware.kstack_guard_pages if guard < 0 else guard,
                kstack_max_pages=machine.kstack_max_pages,
                without_kstack_usage_prof=not machine.kstack_usage_prof,
                no_swapping=machine.no_swapping,
                preempt_seed=machine.preempt_seed,
                without_invariants=not machine.invariants,
                **common,
            )
        )
        kernel.scheduler.boot(
            SchedulerBoot(
                mips=machine.mips,
                seed=machine.seed,
                stack_swap=machine.stack_swap,
                page_count=pages,
                page_size=hardware.page_size,
                without_kstack_usage_prof=not machine.kstack_usage_prof,
                no_swapping=machine.no_swapping,
                swap_debug=machine.swap_debug,
                ncpu=machine.ncpu,
                shootdown_ns=machine.shootdown_ns,
                ipi_ns=machine.ipi_ns,
                preempt_seed=machine.preempt_seed,
                without_invariants=not machine.invariants,
                **common,
            )
        )
        check_sysctls(self.workload, sysctls(kernel))
        for name, value in machine.sysctls.items():
            sysctl_set(kernel, name, value)
        kernel.scheduler.spawn(self._spawn_requests())
        self.dispatch = self._taken(kernel.scheduler.next(_IDLE_LIMIT_US))

    def run(self, progress: Callable[[Orchestrator], None] = lambda _: None) -> None:
        """Execute until every program has ended.

        Args:
            progress: Called after every step.

        Raises:
            KernelPanic: The C code panicked.
            InvariantViolated: With `check`, an invariant does not hold.
            ServiceLost: A service cannot be reached any more.
        """
        while self.step():
            progress(self)

    def step(self) -> bool:
        """Execute one dispatch; False when there is nothing left to do."""
        dispatch = self.dispatch
        if dispatch.kind in (DispatchKind.FINISHED, DispatchKind.DEADLOCK):
            return False
        if dispatch.kind is DispatchKind.IDLE:
            self.dispatch = self._taken(self.kernel.scheduler.next(dispatch.now_us + _IDLE_LIMIT_US))
            return True
        self.tally.dispatches += 1
        stream = self._streams[dispatch.cookie]
        outcome = self._issue(dispatch, stream)
        trap = Trap()
        if outcome.stop is Stop.END:
            trap = self._trap(dispatch, stream)
        upcalls = self.kernel.ctx.take_upcalls()
        self.dispatch = self._taken(
            self.kernel.scheduler.report(dispatch.tid, outcome, trap, upcalls, dispatch.now_us + _IDLE_LIMIT_US)
        )
        if self.check:
            self._check()
        return True

    def look_again(self) -> bool:
        """After a change from outside: whether a machine on which nobody could go on has somebody now."""
        if self.dispatch.kind is DispatchKind.DEADLOCK:
            self.dispatch = self._taken(self.kernel.scheduler.next(self.dispatch.now_us + _IDLE_LIMIT_US))
            return self.dispatch.kind is not DispatchKind.DEADLOCK
        return False

    def traces(self) -> dict[Path, bytes]:
        """The files of all traces, as they were read; a made-up program's is empty."""
        return self._files

    def state(self) -> OrchestratorState:
        """What it knows, between two slices."""
        traces, ctx = list(self._traces.values()), self.kernel.ctx
        streams = {cookie: stream.state(traces) for cookie, stream in self._streams.items()}
        return OrchestratorState(self.tally, self.shadow, self.dispatch, streams, ctx.upcalls, ctx.now_us, ctx.ticks)

    def restore(self, state: OrchestratorState, traces: Mapping[Path, bytes]) -> None:
        """Stand where another orchestrator stood; the caller's clock is left to `resume`.

        Raises:
            TraceError: A trace cannot be read.
            IndexError: A stream stands outside of its trace.
        """
        self._files = dict(traces)
        with tempfile.TemporaryDirectory(prefix="vmglue-traces-") as directory:
            files = {}
            for number, (name, content) in enumerate(traces.items()):
                files[name] = Path(directory) / f"{number}-{name.name}"
                files[name].write_bytes(content)
            for program in self.workload.programs:
                self._opened(program, files[program.trace])
        opened = list(self._traces.values())
        self._streams = {cookie: Stream.restored(stream, opened) for cookie, stream in state.streams.items()}
        self.tally, self.shadow, self.dispatch = state.tally, state.shadow, state.dispatch

    def resume(self, state: OrchestratorState) -> None:
        """The services have gone back to a state: so does the clock of their caller."""
        machine, ctx = self.workload.machine, self.kernel.ctx
        ctx.reboot(machine.hz, state.ticks, allow_inject=False)
        ctx.now_us, ctx.upcalls = state.now_us, state.upcalls

    def _issue(self, dispatch: Dispatch, stream: Stream) -> Outcome:
        """Issue references until the slice ends, the thread sleeps, or an operation is reached."""
        total = Outcome(phase=dispatch.phase)
        ctx, resume = self.kernel.ctx, dispatch.resume_op
        while not (stream.at_operation() and resume == 0):
            if total.elapsed_us >= dispatch.budget_us:
                total.stop = Stop.BUDGET
                break
            ctx.now_us = dispatch.now_us + total.elapsed_us
            runs, left_us = stream.batch(), dispatch.budget_us - total.elapsed_us
            answer = self._references.issue(
                dispatch.vmspace, stream.task, stream.record, stream.limit(), left_us, total.phase, resume
            )
            resume = 0
            part = answer.outcome
            self.shadow.executed(dispatch.vmspace, runs, 0, part.next_record, answer.observed)
            stream.advance(part.next_record)
            self._add(total, part)
            self.tally.torn += answer.torn
            self.tally.tlb_misses += answer.tlb_misses
            if part.stop is not Stop.END:
                break
        ctx.now_us = dispatch.now_us + total.elapsed_us
        return total

    def _add(self, total: Outcome, part: Outcome) -> None:
        """Join the outcome of one batch of a slice to those before it."""
        self.tally.batches += 1
        self.tally.references += part.references
        self.tally.run_records += part.next_record
        total.stop, total.suspension = part.stop, part.suspension
        total.fault_va, total.kern_error, total.phase = part.fault_va, part.kern_error, part.phase
        total.next_record += part.next_record
        total.references += part.references
        total.kernel_calls += part.kernel_calls
        total.elapsed_us += part.elapsed_us
        total.minor += part.minor
        total.major += part.major

    def _trap(self, dispatch: Dispatch, stream: Stream) -> Trap:
        """The operation behind the last record; a new stream, or a last look at pages before they go."""
        trap = stream.trap()
        if trap.op in (TrapOp.FORK, TrapOp.THR_NEW):
            task, trap.cookie = trap.a, len(self._streams) + 1
            self._streams[trap.cookie] = stream.child(task)
            stream.children[task] = trap.cookie
        elif trap.op in (TrapOp.EXIT, TrapOp.EXEC):
            self.verify(dispatch.vmspace)
        if trap.op is TrapOp.SYSCALL and trap.a == SHMAT:
            self.shadow.share(dispatch.vmspace, trap.c >> PAGE_SHIFT, trap.d >> PAGE_SHIFT)
        for region in trap.regions:
            if region.shared:
                self.shadow.share(dispatch.vmspace, region.start_vpn, region.npages)
        return trap

    def verify(self, vmspace: int) -> None:
        """Compare every written page of an address space with the shadow."""
        stamps = self.kernel.physmem.vmspace_stamps(vmspace)
        self.shadow.verify(vmspace, stamps.vpns, stamps.words)

    def verify_living(self) -> None:
        """The same for the processes that still live, when a run is ended early."""
        for row in self.kernel.scheduler.processes().processes:
            if row.vmspace and row.end_us < 0:
                self.verify(row.vmspace)

    def _taken(self, dispatch: Dispatch) -> Dispatch:
        """Follow clock and address spaces of a new dispatch."""
        self.kernel.ctx.now_us, self.kernel.ctx.ticks = dispatch.now_us, dispatch.ticks
        for notice in dispatch.notices:
            self._notice(notice)
        return dispatch

    def _notice(self, notice: SpaceNotice) -> None:
        if notice.event is SpaceEvent.FORKED:
            self.shadow.forked(notice.parent, notice.vmspace)
        elif notice.event is SpaceEvent.FREED:
            self.shadow.freed(notice.vmspace)
        else:
            self.shadow.unmapped(notice.vmspace, notice.start_vpn, notice.npages)

    def _check(self) -> None:
        self.tally.checks += 1
        for name, port in self.kernel.ports().items():
            violations = port.check().violations
            if violations:
                raise InvariantViolated(
                    f"{name}, after dispatch {self.tally.dispatches} at {self.dispatch.now_us} us: {violations[0]}"
                    + (f" (and {len(violations) - 1} more)" if len(violations) > 1 else "")
                )

        if self.tally.checks % _IDENTITIES_EVERY == 1 and (wrong := violated_by(self.kernel)):
            raise InvariantViolated(f"counters, after dispatch {self.tally.dispatches}: {'; '.join(wrong)}")

    def _spawn_requests(self) -> list[SpawnRequest]:
        requests = []
        for number, program in enumerate(self.workload.programs):
            trace = self._opened(program, program.trace)
            for start_us in starts(program, self.workload.machine.seed, number):
                cookie = len(self._streams) + 1
                stream = Stream(trace, trace.tasks[0], repeats_left=program.repeat - 1, think_us=program.think_us)
                self._streams[cookie] = stream
                requests.append(
                    SpawnRequest(
                        name=program.name,
                        cookie=cookie,
                        start_us=start_us,
                        nice=program.nice,
                        regions=stream.regions(),
                        sleep_scale_percent=round(program.sleep_scale * 100),
                        pri_class=CLASSES[program.rtprio[0]],
                        rtprio=program.rtprio[1],
                        rss_limit=program.rss_limit,
                        memlock_limit=program.memlock_limit,
                        stop_us=program.stop_us,
                        continue_us=program.continue_us,
                    )
                )
        return requests

    def _opened(self, program: Program, file: Path) -> Trace:
        """A program's trace, opened or made once; files are kept for checkpoints, a small part of what they hold."""
        key = (program.trace, program.memory_scale)
        if key not in self._traces:
            if program.phases:
                self._traces[key] = made_trace(program.name, program.phases)
            else:
                self._traces[key] = scaled(Trace.open(file), program.memory_scale)
            self._files.setdefault(program.trace, b"" if program.phases else file.read_bytes())
        return self._traces[key]


def sysctls(kernel: Kernel) -> dict[str, tuple[int, str]]:
    """All sysctls by name: value, and the service that owns it."""
    found = {
        setting.name: (setting.value, service)
        for service, port in kernel.ports().items()
        for setting in port.sysctl_get().settings
    }
    return dict(sorted(found.items()))


def sysctl_set(kernel: Kernel, name: str, value: int) -> None:
    """Set a sysctl at the service that owns it.

    Raises:
        Refused: No service has it, it is read-only, or the value is refused.
    """
    found = sysctls(kernel)
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        expected = f"{near[0]!r}, perhaps" if near else "a sysctl of this kernel (vmglue sysctl lists them)"
        raise Refused(Reason.UNKNOWN_SYSCTL, "name", name, expected)
    kernel.ports()[found[name][1]].sysctl_set(Setting(name, value))
