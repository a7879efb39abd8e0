"""Env: what the C code asks of the kernel around it and can change between two questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.ports.common import Answers
from services.runtime.errors import Reason, Refused


@dataclass(slots=True)
class Script:
    """Scripted answers to one question."""

    answers: list[int]
    """Answers of successive questions."""
    after: int | None
    """Answer to every question after the list; None: the state answers."""
    cycle: bool
    """The list is repeated for ever."""
    position: int = 0
    """Answers given so far."""

    def next(self) -> int | None:
        """The next scripted answer; None: the state answers."""
        if self.cycle and self.answers:
            answer = self.answers[self.position % len(self.answers)]
        elif self.position < len(self.answers):
            answer = self.answers[self.position]
        else:
            return self.after
        self.position += 1
        return answer


def no_preemption(_point: str) -> None:
    """Nothing else runs where the C code drops a lock."""


@dataclass(slots=True)
class Env:
    """Answers from state in production; from a script where injection is allowed."""

    allow_inject: bool = False
    """Scripted answers are accepted."""
    scripts: dict[str, Script] = field(default_factory=dict)
    """Scripted answers by question."""
    preempt: Callable[[str], None] = no_preemption
    """Called wherever the C code drops a lock or sleeps, with the name of the point: function:line of vm_glue.c."""
    preempts: bool = False
    """Something may happen at a point: batches are cut where another thread could see the difference."""

    def ask(self, question: str, state: Callable[[], int]) -> int:
        """Answer a question: from its script if there is one, else from state."""
        script = self.scripts.get(question)
        if script is not None and (answer := script.next()) is not None:
            return answer
        return state()

    def inject(self, script: Iterable[Answers]) -> None:
        """Script answers; a question's earlier script is replaced.

        Raises:
            Refused: The system was not started to allow it.
        """
        if not self.allow_inject:
            raise Refused(
                Reason.INJECTION_REFUSED, "script", "answers", "a system that was started with injection allowed"
            )
        for entry in script:
            after = entry.after if entry.has_after else None
            self.scripts[entry.question] = Script(list(entry.answers), after, entry.cycle)
