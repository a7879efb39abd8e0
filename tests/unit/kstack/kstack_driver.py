"""Drives the kstack core with the calls of the conformance families C and H, over the fake physmem."""

from fake_physmem import FakePhysmem
from naive.words import Panic

from services.kstack.core import KstackCore
from services.ports.common import Answers, Setting
from services.ports.kstack import KstackBoot, StackSample, ThreadStack
from services.ports.physmem import StackPages
from services.runtime.context import Context
from services.runtime.errors import KernelPanic


def booted(kstack_pages=4, guard_pages=1, kva_fail=()):
    """A booted core and its memory."""
    physmem = FakePhysmem(guard_pages, kva_fail)
    core = KstackCore(Context("kstack", inject_permitted=True), physmem)
    core.boot(KstackBoot(kstack_pages, guard_pages, allow_inject=True))
    return core, physmem


def label(stack):
    """The case's name of a stack."""
    return f"s{stack}" if stack else None


class KernelStacksDriver:
    """Family C on the core."""

    def __init__(self, given):
        build = given.get("build", {})
        self.core, self.physmem = booted(
            build.get("kstack_pages", 4), build.get("kstack_guard_pages", 1), given.get("kva_fail", ())
        )
        self.tids = {}
        if "kstack_cache_size" in given.get("tunables", {}):
            self.set_tunable("kstack_cache_size", given["tunables"]["kstack_cache_size"])

    def vm_thread_new(self, thread, pages=0):
        tid = self.tids.setdefault(thread, 100 + len(self.tids))
        answer = self.core.vm_thread_new([ThreadStack(tid, pages)], 0)
        (new,) = answer.stacks
        return {
            "ok": new.ok,
            "stack": label(new.stack),
            "pages": new.td_kstack_pages,
            "cached": new.cached,
            "kva_bytes": new.kva_bytes,
            "guard_pages": new.guard_pages,
            "mapped_pages": new.mapped_pages,
            "kstacks": answer.kstacks,
            "cache_length": answer.cache_length,
        }

    def vm_thread_dispose(self, thread):
        answer = self._panics(lambda: self.core.vm_thread_dispose([self.tids[thread]]))
        (disposed,) = answer.stacks
        return {
            "stack": label(disposed.stack),
            "cached": disposed.cached,
            "freed": [] if disposed.cached else [label(disposed.stack)],
            "kva_bytes_freed": answer.kva_bytes_freed,
            "kstacks": answer.kstacks,
            "cache_length": answer.cache_length,
        }

    def lowmem(self):
        answer = self._panics(self.core.vm_thread_stack_lowmem)
        return {
            "freed": [label(stack) for stack in answer.freed],
            "kva_bytes_freed": answer.kva_bytes_freed,
            "kstacks": answer.kstacks,
            "cache_length": answer.cache_length,
        }

    def set_tunable(self, name, value):
        self.core.sysctl_set(Setting(f"vm.{name}", value))
        return {}

    def lose_page(self, stack, page):
        self.core.lose_page(int(stack[1:]), page)
        return {}

    def final(self):
        states = self.core.stack_states(with_freed=True)
        owners = {state.tid: state for state in states.stacks if state.tid}
        pages = self.physmem.object_pages([StackPages(s.obj, s.ks, s.pages) for s in states.stacks])
        rows, wired = {}, 0
        for state, seen in zip(states.stacks, pages.objects, strict=True):
            row = rows[label(state.stack)] = {"state": state.state, "pages": state.pages}
            if state.state != "freed":
                row |= {"mapped": seen.mapped, "valid": seen.valid, "wired": seen.wired}
                wired += sum(int(count) for count in seen.wired if count != "-")
        return {
            "kstacks": states.kstacks,
            "cache": [label(stack) for stack in states.cache],
            "threads": {
                name: {"stack": label(owners[tid].stack), "pages": owners[tid].pages} if tid in owners else None
                for name, tid in self.tids.items()
            },
            "stacks": rows,
            "wired_pages": wired,
            "objects": pages.object_count,
            "kva_bytes": pages.kva_bytes,
        }

    def _panics(self, call):
        try:
            return call()
        except KernelPanic as panic:
            raise Panic(panic.text) from panic


class StackUseDriver:
    """Family H on the core."""

    def __init__(self, given):
        self.core, _ = booted()
        self.stacks = {name: (int(stack["base"], 16), stack["pages"]) for name, stack in given["threads"].items()}

    def intr_prof_stack_use(self, thread, from_user, sp, race=()):
        self.core.inject([Answers("atomic_cmpset_int", list(race))])
        base, pages = self.stacks[thread]
        answer = self.core.intr_prof_stack_use([StackSample(base, pages, from_user, int(sp, 16))])
        return {"max_kstack_used": answer.max_kstack_used[0]}

    def set_stack(self, thread, base, pages):
        self.stacks[thread] = (int(base, 16), pages)
        return {}

    def final(self):
        settings = {setting.name: setting.value for setting in self.core.sysctl_get().settings}
        return {"max_kstack_used": settings["debug.max_kstack_used"]}
