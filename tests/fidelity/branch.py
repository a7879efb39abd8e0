"""What is known of one branch of vm_glue.c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PHYSMEM, KSTACK, SCHEDULER = "services/physmem/", "services/kstack/", "services/scheduler/"


class Spot(NamedTuple):
    """A statement that is executed only where the branch is taken."""

    file: str
    """Path in the repository."""
    function: str
    """Function in it."""
    anchor: str
    """How the line begins."""
    when: str = ""
    """What holds there in addition, as an expression over the function's variables; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A row of the table."""

    lines: str
    """Lines of vm_glue.c."""
    rule: str
    """The rule in a few words."""
    spots: tuple[Spot, ...]
    """Where it lives; one of them is enough."""
    panic: str = ""
    """How the panic's text begins, if the branch is a panic or a failed KASSERT."""
    tests: tuple[str, ...] = ()
    """Tests that get there, as FILE::NAME; needed where no case does."""


def at(lines: str, rule: str, *spots: Spot, panic: str = "", tests: tuple[str, ...] = ()) -> Branch:
    """A branch."""
    return Branch(lines, rule, spots, panic, tests)
