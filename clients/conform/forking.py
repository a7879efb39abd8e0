"""Family G: vm_forkproc and vm_waitproc, through the scheduler port."""

from __future__ import annotations

from clients.conform.families import Json
from clients.conform.population import NEVER, Population
from clients.conform.processes import RF_FLAGS, bits, names
from services.ports.scheduler import ForkStep, ForkStepKind, Left

_ERRNO = {0: None, 12: "ENOMEM"}


class Forking(Population):
    """Processes and their address spaces; a copy of one gets its name when it is made."""

    def vm_forkproc(
        self,
        thread: str,
        child: str | None,
        child_thread: str | None,
        vmspace: str | None,
        flags: list[str],
        leave_after_waits: int | None,
    ) -> Json:
        """vm_forkproc."""
        call = self.kernel.scheduler.vm_forkproc(
            self.ids["thread"][thread],
            self.ids["proc"][child] if child else 0,
            self.ids["thread"][child_thread] if child_thread else 0,
            self.ids["vmspace"][vmspace] if vmspace else 0,
            bits(flags, RF_FLAGS),
            leave_after_waits or NEVER,
        )
        steps = [self._step(step) for step in call.steps]
        if call.left is not Left.RETURNED:
            return {"calls": steps, "vm_waits": call.vm_waits, "left": "vm_wait"}
        return {"calls": steps, "vm_waits": call.vm_waits, "left": "returned", "error": _ERRNO[call.error]}

    def _step(self, step: ForkStep) -> Json:
        """One of the calls that vm_forkproc made."""
        proc, thread, vmspace = self.names["proc"], self.names["thread"], self.names["vmspace"]
        if step.kind is ForkStepKind.UNSHARE:
            if step.vmspace:
                vmspace[step.vmspace] = f"{vmspace[step.old_vmspace]}@{proc[step.pid]}"
                self.ids["vmspace"][vmspace[step.vmspace]] = step.vmspace
            return {"call": "unshare", "proc": proc[step.pid]}
        child, space = proc.get(step.child_pid), vmspace.get(step.vmspace)
        if step.kind is ForkStepKind.SHMFORK:
            return {"call": "shmfork", "parent": proc[step.pid], "child": child, "child_vmspace": space}
        return {
            "call": "cpu_fork",
            "thread": thread[step.tid],
            "child": child,
            "child_thread": thread.get(step.child_tid),
            "child_vmspace": space,
            "flags": names(step.flags, RF_FLAGS),
        }

    def vm_waitproc(self, proc: str) -> Json:
        """vm_waitproc."""
        self.kernel.scheduler.vm_waitproc(self.ids["proc"][proc])
        return {}

    def final(self) -> Json:
        """Address spaces of processes and their references; one that is gone has none."""
        states = self.kernel.scheduler.proc_states()
        owners = {p.pid: self.names["vmspace"].get(p.vmspace) for p in states.procs}
        refcnts = {space.vmspace: space.refcnt for space in states.vmspaces}
        return {
            "processes": {name: {"vmspace": owners[pid]} for name, pid in self.ids["proc"].items()},
            "vmspaces": {name: {"refcnt": refcnts.get(id_, 0)} for name, id_ in self.ids["vmspace"].items()},
        }
