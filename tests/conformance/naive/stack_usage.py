"""Family H: intr_prof_stack_use (vm_glue.c:502-535)."""

from __future__ import annotations

from naive.words import PAGE_SIZE, WORD, Json


class StackUsage:
    """Threads' stacks and the deepest use seen."""

    def __init__(self, given: Json) -> None:
        self.stacks = {name: (int(stack["base"], 16), stack["pages"]) for name, stack in given["threads"].items()}
        self.max_kstack_used = 0

    def intr_prof_stack_use(self, thread: str, from_user: bool, sp: str, race: list[int] | None = None) -> Json:
        """One clock interrupt."""
        raced = list(race or [])
        td_kstack, td_kstack_pages = self.stacks[thread]
        stack_top = (td_kstack + td_kstack_pages * PAGE_SIZE) % WORD
        current = int(sp, 16)
        if not from_user and td_kstack <= current < stack_top:
            used = stack_top - current
            while True:
                prev_used = self.max_kstack_used
                if prev_used >= used:
                    break
                if raced:
                    self.max_kstack_used = raced.pop(0)
                if self.max_kstack_used == prev_used:
                    self.max_kstack_used = used
                    break
        return self.final()

    def set_stack(self, thread: str, base: str, pages: int) -> Json:
        """The thread has another stack from now on."""
        self.stacks[thread] = (int(base, 16), pages)
        return {}

    def final(self) -> Json:
        """The maximum."""
        return {"max_kstack_used": self.max_kstack_used}
