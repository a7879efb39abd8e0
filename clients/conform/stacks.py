"""Kernel stacks of a case: pages by letters, as physmem places them, and the scripted pager."""

from __future__ import annotations

from clients.conform.families import Json
from services.ports.common import Answers
from services.ports.pager import VmPager
from services.ports.physmem import ObjectPages, PageQueue, PageState, PageValid, PlacedStack

_VALID = {"V": PageValid.ALL, "P": PageValid.PARTIAL, "I": PageValid.NONE}
_QUEUE = {"I": PageQueue.INACTIVE, "A": PageQueue.ACTIVE, "N": PageQueue.NONE}
_RUN_MAX = 32
"""Pages of the longest run that vm_thread_swapin asks for."""
_VANISH_MAX = 21
"""Positions of a run whose pages a scripted pager can take away."""


def placed_stack(given: Json | None, in_memory: bool, kstack_pages: int) -> PlacedStack:
    """The stack of a thread, whose default depends on whether it has TDF_INMEM."""
    given = given or {"pages": None, "content": None, "valid": None, "mapped": False}
    content = given["content"] or ("resident" if in_memory else "swapped")
    size = given["pages"] or (len(given["valid"]) if given["valid"] else kstack_pages)
    if content == "resident":
        return PlacedStack(size, [PageState(i, PageValid.ALL, wired=1) for i in range(size)], mapped=True)
    if content == "swapped":
        return PlacedStack(size, [PageState(i, PageValid.ALL, dirty=True) for i in range(size)])
    if content == "paged_out":
        return PlacedStack(size)
    return PlacedStack(size, _pages(given), given["mapped"])


def _pages(given: Json) -> list[PageState]:
    """The resident pages that the strings describe."""
    length = len(given["valid"])
    dirty, wired, queue = (
        given[key] or letter * length for key, letter in (("dirty", "."), ("wired", "0"), ("queue", "I"))
    )
    return [
        PageState(i, _VALID[valid], dirty[i] == "D", int(wired[i]), 0, _QUEUE[queue[i]])
        for i, valid in enumerate(given["valid"])
        if valid != "-"
    ]


def stack_strings(pages: ObjectPages) -> Json:
    """The final state of a stack."""
    return {key: getattr(pages, key) for key in ("mapped", "valid", "dirty", "wired", "queue", "busy")}


def pager_script(given: list[Json]) -> Answers:
    """What successive vm_pager_get_pages() calls do; after the list each fills its run."""
    return Answers("vm_pager_get_pages", [_pager_answer(entry) for entry in given], VmPager.OK, has_after=True)


def _pager_answer(entry: Json) -> int:
    """One answer as physmem reads it (services/physmem/vm_pager.py get_pages_scripted)."""
    answer = int(VmPager[entry["result"]]) | int(entry["keep_busy"]) << 3
    if entry["filled"] is not None:
        answer |= min(entry["filled"], _RUN_MAX) + 1 << 4
    for position in entry["replace"]:
        answer |= 1 << 10 + position if position < _RUN_MAX else 0
    for position in entry["vanish"]:
        answer |= 1 << 42 + position if position < _VANISH_MAX else 0
    return answer
