"""The pages of one kernel stack under swap-out, paging and swap-in (vm_glue.c:538-607)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from naive.words import Json, Panic


@dataclass
class Page:
    """A page of a stack's object, in the letters of a case's strings."""

    valid: str = "I"
    dirty: str = "."
    wired: int = 0
    queue: str = "N"
    busy: bool = False


class Pager:
    """vm_pager_get_pages as the case's script says, one entry for each call."""

    def __init__(self, script: list[Json]) -> None:
        self.script = list(script)

    def get_pages(self, pages: dict[int, Page], first: int, count: int) -> str:
        """Read a run of busy pages."""
        entry = self.script.pop(0) if self.script else {}
        for position in entry.get("replace", []):
            if position < count:
                pages[first + position] = replace(pages[first + position])
        result: str = entry.get("result", "OK")
        filled = entry.get("filled", count) if result == "OK" else 0
        for position in range(min(filled, count)):
            page = pages[first + position]
            page.valid, page.dirty = "V", "."
            if position > 0 and not entry.get("keep_busy", False):
                page.busy = False
        return result


class Stack:
    """An object's resident pages, and what is mapped at the stack's address."""

    def __init__(self, given: Json | None, in_memory: bool, kstack_pages: int) -> None:
        given = given or {}
        content = given.get("content", "resident" if in_memory else "swapped")
        self.size = given.get("pages", len(given.get("valid", "")) or kstack_pages)
        self.pages: dict[int, Page] = {}
        if content == "resident":
            self.pages = {index: Page("V", ".", 1, "N") for index in range(self.size)}
        elif content == "swapped":
            self.pages = {index: Page("V", "D", 0, "I") for index in range(self.size)}
        elif content == "pages":
            self._read_strings(given)
        mapped = content == "resident" or given.get("mapped", False)
        self.mapped = [self.pages.get(index) if mapped else None for index in range(self.size)]

    def _read_strings(self, given: Json) -> None:
        for index, valid in enumerate(given["valid"]):
            if valid != "-":
                dirty = given["dirty"][index] if "dirty" in given else "."
                wired = int(given["wired"][index]) if "wired" in given else 0
                queue = given["queue"][index] if "queue" in given else "I"
                self.pages[index] = Page(valid, dirty, wired, "N" if wired else queue)

    def swapout(self) -> None:
        """vm_thread_swapout."""
        self.mapped = [None] * self.size
        for index in range(self.size):
            page = self.pages.get(index)
            if page is None:
                raise Panic("vm_thread_swapout: kstack already missing?")
            if page.valid != "V":
                raise Panic("vm_page_dirty: page is invalid!")
            page.dirty = "D"
            if page.wired == 0:
                raise Panic("vm_page_unwire: page's wire count is zero")
            page.wired -= 1
            if page.wired == 0:
                page.queue = "I"

    def swapin(self, pager: Pager, pid: int) -> list[Json]:
        """vm_thread_swapin; answers the requests to the pager."""
        requests: list[Json] = []
        for index in range(self.size):
            page = self.pages.setdefault(index, Page())
            page.wired += 1
            page.queue = "N"
            page.busy = True
        for first in range(self.size):
            if self.pages[first].valid == "V":
                self.pages[first].busy = False
                continue
            behind = first + 1
            while behind < self.size and self.pages[behind].valid != "V":
                behind += 1
            result = pager.get_pages(self.pages, first, behind - first)
            requests.append({"first": first, "count": behind - first, "result": result})
            if result != "OK":
                raise Panic(f"vm_thread_swapin: cannot get kstack for proc: {pid}")
            self.pages[first].busy = False
        self.mapped = [self.pages[index] for index in range(self.size)]
        return requests

    def evict(self, wanted: list[int]) -> list[int]:
        """The page daemon takes pages; answers those that it could take."""
        taken = [index for index in wanted if index in self.pages]
        taken = [index for index in taken if not self.pages[index].wired and not self.pages[index].busy]
        for index in taken:
            del self.pages[index]
        return taken

    def state(self) -> Json:
        """The strings of the final state."""
        pages = [self.pages.get(index) for index in range(self.size)]

        def row(letters: list[str]) -> str:
            return "".join("-" if page is None else letter for page, letter in zip(pages, letters, strict=True))

        held = [page or Page() for page in pages]
        return {
            "mapped": "".join(
                "." if mapped is None else "M" if mapped is page else "S"
                for mapped, page in zip(self.mapped, pages, strict=True)
            ),
            "valid": row([page.valid for page in held]),
            "dirty": row([page.dirty for page in held]),
            "wired": row([str(page.wired) for page in held]),
            "queue": row([page.queue for page in held]),
            "busy": row(["X" if page.busy else "." for page in held]),
        }
