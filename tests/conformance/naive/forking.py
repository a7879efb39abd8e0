"""Family G: vm_forkproc and vm_waitproc (vm_glue.c:609-679)."""

from __future__ import annotations

from dataclasses import dataclass

from naive.words import Json


@dataclass
class Space:
    """A vmspace."""

    refcnt: int = 1
    shm: bool = False


class Forking:
    """Processes, their address spaces, and what the kernel around answers."""

    def __init__(self, given: Json) -> None:
        self.spaces = {
            name: Space(space.get("refcnt", 1), space.get("shm", False))
            for name, space in given.get("vmspaces", {}).items()
        }
        self.processes: dict[str, str | None] = {}
        self.owner: dict[str, str] = {}
        for process in given.get("processes", []):
            name = process["name"]
            if "vmspace" not in process:
                self.spaces[f"vm-{name}"] = Space()
            self.processes[name] = process.get("vmspace", f"vm-{name}")
            for thread in process.get("threads", []):
                self.owner[thread["name"]] = name
        self.severe = list(given.get("page_count_severe", []))
        self.severe_after = given.get("page_count_severe_after", False)
        self.unshare_error = given.get("unshare_error")

    def _page_count_severe(self) -> bool:
        return bool(self.severe.pop(0) if self.severe else self.severe_after)

    def _unshare(self, process: str, calls: list[Json]) -> str | None:
        """vmspace_unshare."""
        calls.append({"call": "unshare", "proc": process})
        if self.unshare_error is not None:
            return str(self.unshare_error)
        old = self.processes[process]
        assert old is not None
        copy = f"{old}@{process}"
        self.spaces[copy] = Space()
        self.spaces[old].refcnt -= 1
        self.processes[process] = copy
        return None

    def vm_forkproc(
        self,
        thread: str,
        child: str | None,
        child_thread: str | None,
        vmspace: str | None,
        flags: list[str],
        leave_after_waits: int | None = None,
    ) -> Json:
        """vm_forkproc."""
        parent = self.owner[thread]
        calls: list[Json] = []

        def cpu_fork() -> Json:
            space = None if child is None else self.processes[child]
            names = {"thread": thread, "child": child, "child_thread": child_thread}
            calls.append({"call": "cpu_fork", **names, "child_vmspace": space, "flags": flags})
            return {"calls": calls, "vm_waits": waits, "left": "returned", "error": None}

        waits = 0
        space = self.processes[parent]
        assert space is not None
        if "RFPROC" not in flags:
            if "RFMEM" not in flags and self.spaces[space].refcnt > 1:
                error = self._unshare(parent, calls)
                if error is not None:
                    return {"calls": calls, "vm_waits": 0, "left": "returned", "error": error}
            return cpu_fork()
        assert child is not None
        if "RFMEM" in flags:
            self.processes[child] = space
            self.spaces[space].refcnt += 1
        while self._page_count_severe():
            waits += 1
            if waits == leave_after_waits:
                return {"calls": calls, "vm_waits": waits, "left": "vm_wait"}
        if "RFMEM" not in flags:
            self.processes[child] = vmspace
            if self.spaces[space].shm:
                calls.append({"call": "shmfork", "parent": parent, "child": child, "child_vmspace": vmspace})
        return cpu_fork()

    def vm_waitproc(self, proc: str) -> Json:
        """vm_waitproc."""
        space = self.processes[proc]
        assert space is not None
        self.processes[proc] = None
        self.spaces[space].refcnt -= 1
        return {}

    def final(self) -> Json:
        """Address spaces of processes and their references."""
        return {
            "processes": {name: {"vmspace": space} for name, space in self.processes.items()},
            "vmspaces": {name: {"refcnt": space.refcnt} for name, space in self.spaces.items()},
        }
