"""Family C: vm_thread_new, vm_thread_dispose, vm_thread_stack_dispose, vm_thread_stack_lowmem (vm_glue.c:303-480)."""

from __future__ import annotations

from dataclasses import dataclass, field

from naive.words import PAGE_SIZE, Json, Panic, c_int

KSTACK_MAX_PAGES = 32


@dataclass
class Stack:
    """A stack that was ever built."""

    label: str
    pages: int
    state: str = "in_use"
    lost: set[int] = field(default_factory=set)


class KernelStacks:
    """Threads, stacks, and the cache as a list whose first entry is taken next."""

    def __init__(self, given: Json) -> None:
        build = given.get("build", {})
        self.kstack_pages = build.get("kstack_pages", 4)
        self.guard_pages = build.get("kstack_guard_pages", 1)
        self.kstack_cache_size = given.get("tunables", {}).get("kstack_cache_size", 128)
        self.kva_fail = given.get("kva_fail", [])
        self.kva_calls = 0
        self.kstacks = 0
        self.cache: list[Stack] = []
        self.stacks: list[Stack] = []
        self.threads: dict[str, Stack | None] = {}

    def _kva_bytes(self, pages: int) -> int:
        return (pages + self.guard_pages) * PAGE_SIZE

    def _counts(self) -> Json:
        return {"kstacks": self.kstacks, "cache_length": len(self.cache)}

    def _kva_alloc(self) -> bool:
        self.kva_calls += 1
        return self.kva_calls not in self.kva_fail

    def vm_thread_new(self, thread: str, pages: int = 0) -> Json:
        """vm_thread_new."""
        if pages <= 1:
            pages = self.kstack_pages
        elif pages > KSTACK_MAX_PAGES:
            pages = KSTACK_MAX_PAGES
        if pages == self.kstack_pages and self.cache:
            stack = self.cache.pop(0)
            stack.state = "in_use"
            self.threads[thread] = stack
            return self._new(stack, cached=True)
        if not self._kva_alloc():
            self.threads.setdefault(thread, None)
            return self._new(None, cached=False)
        self.kstacks += 1
        stack = Stack(f"s{len(self.stacks) + 1}", pages)
        self.stacks.append(stack)
        self.threads[thread] = stack
        return self._new(stack, cached=False)

    def _new(self, stack: Stack | None, cached: bool) -> Json:
        built = stack is not None and not cached
        return {
            "ok": stack is not None,
            "stack": stack.label if stack else None,
            "pages": stack.pages if stack else 0,
            "cached": cached,
            "kva_bytes": self._kva_bytes(stack.pages) if stack and built else 0,
            "guard_pages": self.guard_pages if built else 0,
            "mapped_pages": stack.pages if stack and built else 0,
            **self._counts(),
        }

    def _stack_dispose(self, stack: Stack) -> int:
        """vm_thread_stack_dispose; answers the kernel address space that is given back."""
        self.kstacks -= 1
        if stack.lost:
            raise Panic("vm_thread_dispose: kstack already missing?")
        stack.state = "freed"
        return self._kva_bytes(stack.pages)

    def vm_thread_dispose(self, thread: str) -> Json:
        """vm_thread_dispose."""
        stack = self.threads[thread]
        assert stack is not None
        self.threads[thread] = None
        if stack.pages == self.kstack_pages and self.kstacks <= self.kstack_cache_size:
            stack.state = "cached"
            self.cache.insert(0, stack)
            return {"stack": stack.label, "cached": True, "freed": [], "kva_bytes_freed": 0, **self._counts()}
        freed = self._stack_dispose(stack)
        return {
            "stack": stack.label,
            "cached": False,
            "freed": [stack.label],
            "kva_bytes_freed": freed,
            **self._counts(),
        }

    def lowmem(self) -> Json:
        """vm_thread_stack_lowmem."""
        drained, self.cache = self.cache, []
        freed = sum(self._stack_dispose(stack) for stack in drained)
        return {"freed": [stack.label for stack in drained], "kva_bytes_freed": freed, **self._counts()}

    def set_tunable(self, name: str, value: int) -> Json:
        """vm.kstack_cache_size is set."""
        assert name == "kstack_cache_size"
        self.kstack_cache_size = c_int(value)
        return {}

    def lose_page(self, stack: str, page: int) -> Json:
        """A page leaves a stack's object."""
        self.stacks[int(stack[1:]) - 1].lost.add(page)
        return {}

    def final(self) -> Json:
        """Stacks, cache, threads, and what they take."""
        live = [stack for stack in self.stacks if stack.state != "freed"]
        return {
            "kstacks": self.kstacks,
            "cache": [stack.label for stack in self.cache],
            "threads": {
                name: {"stack": stack.label, "pages": stack.pages} if stack else None
                for name, stack in self.threads.items()
            },
            "stacks": {stack.label: _state(stack) for stack in self.stacks},
            "wired_pages": sum(stack.pages - len(stack.lost) for stack in live),
            "objects": len(live),
            "kva_bytes": sum(self._kva_bytes(stack.pages) for stack in live),
        }


def _state(stack: Stack) -> Json:
    state: Json = {"state": stack.state, "pages": stack.pages}
    if stack.state != "freed":
        rows = {"mapped": "MS", "valid": "V-", "wired": "1-"}
        state |= {
            key: "".join(letters[index in stack.lost] for index in range(stack.pages)) for key, letters in rows.items()
        }
    return state
