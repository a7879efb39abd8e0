"""The machine that `vmglue up` keeps: one thread does everything to it, one command after another."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import structlog

from clients.checkpoint import restore, take
from clients.checkpoint_file import CheckpointError, CheckpointFile
from clients.report import Ending
from clients.run import Limit, Progress, Run, describe_panic
from clients.system import System
from clients.workload import Workload
from protos.machine_pb2 import MachineState as State
from services.ports.scheduler import DispatchKind
from services.runtime.errors import KernelPanic, ServiceLost

Answer = TypeVar("Answer")
StateValue: TypeAlias = State.ValueType
"""A value of MachineState (protos/machine.proto)."""

_ENDED = {
    Ending.COMPLETE: State.MACHINE_STATE_FINISHED,
    Ending.DEADLOCK: State.MACHINE_STATE_FINISHED,
    Ending.PAUSED: State.MACHINE_STATE_PAUSED,
    Ending.PANIC: State.MACHINE_STATE_PANICKED,
    Ending.INVARIANT: State.MACHINE_STATE_PAUSED,
}


class WrongState(Exception):
    """A command that the machine's state does not allow; the text says what would have to be done first."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a machine stopped."""

    text: str
    """One sentence."""
    function: str = ""
    """Panic: the C function."""
    line: int = 0
    """Panic: line of vm_glue.c."""
    lost_service: str = ""
    """Service that was lost."""


class Machine:
    """A machine under remote control.

    Attributes:
        system: Services and ports.
        state: How far it has come (MachineState of protos/machine.proto).
        progress: Where the run is, as of its last sample.
        report: The last report as JSON; empty while a run goes on.
        failure: Why it stopped, if it did.
        news: Notified whenever one of these changes.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.state: StateValue = State.MACHINE_STATE_EMPTY
        self.progress: Progress | None = None
        self.report = ""
        self.failure: Failure | None = None
        self.news = threading.Condition()
        self._run: Run | None = None
        self._limit = Limit()
        self._context = copy_context()
        """Ids of the request that started the run, for its spans and log entries."""
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="machine")
        self._thread.start()

    def call(self, command: Callable[[], Answer], timeout_s: float | None = None) -> Answer:
        """Do something on the machine's thread, between two dispatches of a run, and wait for its answer.

        Args:
            command: What to do; it sees the caller's context variables.
            timeout_s: Longest time to wait; None: until it is done.

        Raises:
            TimeoutError: It was not done in time; it will be, unless the machine is closed before.
        """
        future: Future[Answer] = Future()
        context = copy_context()

        def carry_out() -> None:
            try:
                future.set_result(command())
            except BaseException as error:
                future.set_exception(error)

        self._commands.put(lambda: context.run(carry_out))
        return future.result(timeout_s)

    def load(self, workload: Workload) -> None:
        """Boot the machine with a workload; an earlier machine is dropped.

        Raises:
            WrongState: A run is going on.
            Refused: A sysctl of the workload is refused.
        """
        self.call(lambda: self._load(workload))

    def checkpoint(self) -> bytes:
        """A checkpoint between two dispatches; a run goes on behind it.

        Raises:
            WrongState: Nothing is loaded, or a service was lost.
        """
        return self.call(self._checkpoint)

    def restore(self, file: CheckpointFile) -> None:
        """Bring the machine to a checkpoint; an earlier machine is dropped.

        Raises:
            WrongState: A run is going on.
            CheckpointError: The checkpoint is refused; the machine is what it was.
        """
        self.call(lambda: self._restore(file))

    def start(self, check: bool, until_us: int) -> None:
        """Start or resume a run.

        Args:
            check: Verify all invariants after every batch.
            until_us: Virtual time at which to pause; 0: at the end.

        Raises:
            WrongState: Nothing is loaded, a run is going on, or the machine has ended.
        """
        self.call(lambda: self._start(check, Limit(until_us=until_us)))

    def step(self, dispatches: int, check: bool) -> str:
        """Execute some dispatches; the next one as a line.

        Raises:
            WrongState: As for `start`.
        """
        self.call(lambda: self._start(check, Limit(dispatches=self._executed() + max(1, dispatches))))
        with self.news:
            self.news.wait_for(lambda: self.state != State.MACHINE_STATE_RUNNING)
        return self.call(self._next)

    def pause(self) -> None:
        """Pause a run between two dispatches; a machine that does not run stays as it is."""
        self.call(self._pause)

    def kill(self, pids: list[int], signal: int) -> None:
        """Send a signal to processes; a machine that ended because all were stopped can be resumed if one goes on.

        Raises:
            Refused: One of them does not live or is the kernel's own, or there is no such signal.
        """
        self.call(lambda: self._kill(pids, signal))

    @property
    def workload(self) -> str:
        """Name of the loaded workload; empty: none."""
        return self._run.workload.name if self._run is not None else ""

    def wind_down(self, patience_s: float) -> None:
        """Pause the run, so that who follows it gets its report; a call that a service does not answer is cut off.

        Args:
            patience_s: Time that the pause may take, in seconds.
        """
        try:
            self.call(self._pause, patience_s)
        except TimeoutError:
            structlog.get_logger().warning("a service does not answer; its call is cut off")
            self.system.kernel.hang_up()

    def close(self) -> None:
        """End the thread; a run stops at its next dispatch."""
        self._closing = True
        self._commands.put(lambda: None)
        self._thread.join()

    def _work(self) -> None:
        while not self._closing:
            if self.state == State.MACHINE_STATE_RUNNING and self._commands.empty():
                self._advance()
            else:
                self._commands.get()()

    def _advance(self) -> None:
        """Execute until a command waits or the run ends."""
        run = self._loaded()
        try:
            ending = self._context.run(
                run.execute, lambda: not self._commands.empty(), progress=self._sampled, limit=self._limit
            )
            if ending is not Ending.INTERRUPTED:
                self._settle(run, ending)
        except ServiceLost as lost:
            why = str(self.system.explain(lost))
            self._context.run(structlog.get_logger().warning, "run stopped", why=why)
            self._stopped(Failure(why, lost_service=lost.service))
        except Exception as error:  # whatever it is, whoever waits for the run must be told
            self._context.run(structlog.get_logger().exception, "run failed")
            self._stopped(Failure(f"{type(error).__name__}: {error}"))

    def _settle(self, run: Run, ending: Ending) -> None:
        """A run ended or paused: make its report."""
        report = json.dumps(run.report(ending))
        failure = _failure(run, ending)
        with self.news:
            self.report, self.failure, self.progress = report, failure, run.progress()
            self.state = _ENDED[ending]
            self.news.notify_all()

    def _stopped(self, failure: Failure) -> None:
        with self.news:
            self.failure, self.state = failure, State.MACHINE_STATE_LOST
            self.news.notify_all()

    def _sampled(self, progress: Progress) -> None:
        with self.news:
            self.progress = progress
            self.news.notify_all()

    def _checkpoint(self) -> bytes:
        if self.state == State.MACHINE_STATE_LOST:
            raise WrongState("a service was lost; there is nothing whole to save")
        return take(self._loaded()).pack()

    def _restore(self, file: CheckpointFile) -> None:
        self._replaceable()
        try:
            run = restore(self.system.kernel, file)
        except CheckpointError:
            raise
        except Exception:  # services of two machines are none
            self._run, self.state = None, State.MACHINE_STATE_EMPTY
            raise
        self._run = run
        self._settle(run, run.ending())

    def _replaceable(self) -> None:
        if self.state == State.MACHINE_STATE_RUNNING:
            raise WrongState("a run is going on; pause it before another machine is loaded")
        if self.state == State.MACHINE_STATE_LOST and not self.system.joined:
            raise WrongState("a service was lost; end this system and start another")

    def _load(self, workload: Workload) -> None:
        self._replaceable()
        run = Run(self.system.kernel, workload)
        self._run, self.state = None, State.MACHINE_STATE_EMPTY
        run.boot()
        with self.news:
            self._run, self.report, self.failure = run, "", None
            self.progress, self.state = run.progress(), State.MACHINE_STATE_LOADED
            self.news.notify_all()

    def _start(self, check: bool, limit: Limit) -> None:
        if self.state not in (State.MACHINE_STATE_LOADED, State.MACHINE_STATE_PAUSED):
            first = "pause it" if self.state == State.MACHINE_STATE_RUNNING else "load a workload"
            raise WrongState(f"the machine is {state_word(self.state)}; {first} first")
        self._loaded().orchestrator.check = check
        self._limit, self._context = limit, copy_context()
        with self.news:
            self.report, self.failure, self.state = "", None, State.MACHINE_STATE_RUNNING

    def _pause(self) -> None:
        if self.state == State.MACHINE_STATE_RUNNING:
            self._settle(self._loaded(), Ending.PAUSED)

    def _kill(self, pids: list[int], signal: int) -> None:
        self.system.kernel.scheduler.kill(pids, signal)
        if self._run is not None and self._run.orchestrator.look_again():
            self._settle(self._run, Ending.PAUSED)

    def _next(self) -> str:
        dispatch = self._loaded().orchestrator.dispatch
        if dispatch.kind is DispatchKind.RUN:
            return (
                f"thread {dispatch.tid} of process {dispatch.pid} for {dispatch.budget_us} us at {dispatch.now_us} us"
            )
        return f"{dispatch.kind.name.lower()} at {dispatch.now_us} us{': ' * bool(dispatch.reason)}{dispatch.reason}"

    def _executed(self) -> int:
        return self._loaded().orchestrator.tally.dispatches

    def _loaded(self) -> Run:
        if self._run is None:
            raise WrongState("nothing is loaded")
        return self._run


def state_word(state: StateValue) -> str:
    """A state in a word: empty, loaded, running, paused, finished, panicked, lost."""
    return State.Name(state).removeprefix("MACHINE_STATE_").lower()


def _failure(run: Run, ending: Ending) -> Failure | None:
    if ending is Ending.PANIC and isinstance(run.panic, KernelPanic):
        return Failure(describe_panic(run.panic), run.panic.function, run.panic.line)
    if ending in (Ending.INVARIANT, Ending.DEADLOCK):
        return Failure(f"{ending.value}: {run.detail}")
    return None
