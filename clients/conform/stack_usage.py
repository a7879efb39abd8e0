"""Family H: intr_prof_stack_use, through the kstack port."""

from __future__ import annotations

from clients.conform.driver import Driver
from clients.conform.families import Json
from clients.kernel import Kernel
from services.ports.common import Answers
from services.ports.kstack import StackSample


class StackUsage(Driver):
    """The threads' stacks are arguments of each sample."""

    def __init__(self, kernel: Kernel, given: Json) -> None:
        super().__init__(kernel, given)
        self.boot()
        self._stacks = {name: (stack["base"], stack["pages"]) for name, stack in given["threads"].items()}

    def intr_prof_stack_use(self, thread: str, from_user: bool, sp: int, race: list[int]) -> Json:
        """One clock interrupt; `race` is stored by another processor before the compare-and-set."""
        self.kernel.kstack.inject([Answers("atomic_cmpset_int", race)])
        base, pages = self._stacks[thread]
        answer = self.kernel.kstack.intr_prof_stack_use([StackSample(base, pages, from_user, sp)])
        return {"max_kstack_used": answer.max_kstack_used[-1]}

    def set_stack(self, thread: str, base: int, pages: int) -> Json:
        """The thread has another stack from now on."""
        self._stacks[thread] = (base, pages)
        return {}

    def final(self) -> Json:
        """The sysctl."""
        settings = self.kernel.kstack.sysctl_get().settings
        return {"max_kstack_used": next(each.value for each in settings if each.name == "debug.max_kstack_used")}
