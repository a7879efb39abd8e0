"""Names within a case: what a call or a change speaks of must be in the situation."""

from __future__ import annotations

from collections.abc import Iterator

from clients.conform.families import Json
from clients.conform.shape import ShapeError, shown

Names = dict[str, set[str]]
"""Names of each kind of subject."""

_SUBJECTS = {"proc": "proc", "thread": "thread", "child": "proc", "child_thread": "thread", "vmspace": "vmspace"}
"""Kind of subject behind each key of a call or a change of the families with processes."""
_OF_PROCESSES = ("A_swapout_procs", "B_swapper_faultin", "E_stack_paging", "G_fork_and_wait")


def check_names(family: str, given: Json, when: list[Json]) -> None:
    """Find a name that stands for nothing.

    Raises:
        ShapeError: There is one.
    """
    known, keys = _known(family, given)
    for index, call in enumerate(when):
        for path, found in _objects(call, f"when[{index}]"):
            for key, kind in keys.items():
                name = found.get(key)
                if name is not None and name not in known[kind]:
                    raise ShapeError(f"{path}.{key}", f"{shown(name)} is no {kind} of the case")


def _known(family: str, given: Json) -> tuple[Names, dict[str, str]]:
    """Names of the situation, and the keys that refer to them; a family may need no declaration."""
    if family in _OF_PROCESSES:
        processes = given["processes"]
        spaces = {process["vmspace"] for process in processes if process["vmspace"] is not None}
        known = {
            "proc": {process["name"] for process in processes},
            "thread": {thread["name"] for process in processes for thread in process["threads"]},
            "vmspace": {*given["vmspaces"], *spaces},
        }
        return known, _SUBJECTS
    if family == "F_imgact_and_icache":
        return {"object": set(given["objects"]), "map": {"kernel", *given["vmspaces"]}}, {
            "object": "object",
            "map": "map",
        }
    if family == "H_stack_usage":
        return {"thread": set(given["threads"])}, {"thread": "thread"}
    return {}, {}


def _objects(call: Json, path: str) -> Iterator[tuple[str, Json]]:
    """The call and every change in it, each with its path."""
    yield path, call
    for index, change in enumerate(call.get("changes", ())):
        yield f"{path}.changes[{index}]", change
    for at, changes in enumerate(call.get("on_sleep", ())):
        for index, change in enumerate(changes):
            yield f"{path}.on_sleep[{at}][{index}]", change
    for scan, changes in call.get("after_scan", {}).items():
        for index, change in enumerate(changes):
            yield f"{path}.after_scan.{scan}[{index}]", change
