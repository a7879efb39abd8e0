"""Family D: kernacc, useracc, vslock, vsunlock (vm_glue.c:120-223) over an address map without objects.

Wire counts are kept per page, entries are a list: everything is looked up by walking it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from naive.words import PAGE_SIZE, WORD, Json, Panic, c_int, round_page, trunc_page

KERNEL_MAP = (0xFFFFFE0000000000, 0xFFFFFFFFFFFFF000)
USER_MAP = (0, 0x800000000000)
PROT_BITS = {"-": 0, "r": 1, "w": 2, "x": 4}


def prot_bits(letters: str) -> int:
    """Protection bits of their letters."""
    return sum(PROT_BITS[letter] for letter in letters)


@dataclass
class Map:
    """An address map; `counts` holds the wire count of every page of the entries that is wired."""

    min_offset: int
    max_offset: int
    entries: list[tuple[int, int, int, bool]]
    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def build(cls, given: Json, bounds: tuple[int, int]) -> Map:
        """The map of a case."""
        built = cls(
            int(given["min"], 16) if "min" in given else bounds[0],
            int(given["max"], 16) if "max" in given else bounds[1],
            [],
        )
        for entry in given.get("entries", []):
            start, end = int(entry["start"], 16), int(entry["end"], 16)
            built.entries.append((start, end, prot_bits(entry.get("prot", "rw")), entry.get("unfaultable", False)))
            if entry.get("wired", 0):
                built.counts.update(dict.fromkeys(range(start, end, PAGE_SIZE), entry["wired"]))
        return built

    def entry_at(self, address: int) -> tuple[int, int, int, bool] | None:
        """The entry that holds an address."""
        return next((entry for entry in self.entries if entry[0] <= address < entry[1]), None)

    def check_protection(self, start: int, end: int, prot: int) -> bool:
        """vm_map_check_protection."""
        entry = self.entry_at(start)
        if entry is None:
            return False
        while start < end:
            if entry is None or prot & ~entry[2]:
                return False
            start = entry[1]
            entry = self.entry_at(start)
        return True

    def _pages(self, start: int, end: int) -> list[int] | None:
        """Pages of a range moved into the map's bounds; None: no entry at its start, or a hole."""
        start, end = max(start, self.min_offset), min(end, self.max_offset)
        start = min(start, end)
        if self.entry_at(start) is None:
            return None
        pages = []
        for page in range(start, end, PAGE_SIZE):
            if self.entry_at(page) is None:
                return None
            pages.append(page)
        return pages

    def wire(self, start: int, end: int) -> bool:
        """vm_map_wire; a failure changes nothing."""
        if start == end:
            return True
        pages = self._pages(start, end)
        if pages is None:
            return False
        for page in pages:
            entry = self.entry_at(page)
            assert entry is not None
            if not entry[2] & 5 or (entry[3] and not self.counts.get(page)):
                return False
        for page in pages:
            self.counts[page] = self.counts.get(page, 0) + 1
        return True

    def unwire(self, start: int, end: int) -> None:
        """vm_map_unwire; a failure changes nothing."""
        if start == end:
            return
        pages = self._pages(start, end)
        if pages is None or not all(self.counts.get(page) for page in pages):
            return
        for page in pages:
            self.counts[page] -= 1

    def wired(self) -> list[Json]:
        """Runs of equal wire count above zero."""
        runs: list[tuple[int, int, int]] = []
        for page, count in sorted(self.counts.items()):
            if not count:
                continue
            if runs and runs[-1][1] == page and runs[-1][2] == count:
                runs[-1] = (runs[-1][0], page + PAGE_SIZE, count)
            else:
                runs.append((page, page + PAGE_SIZE, count))
        return [{"start": hex(start), "end": hex(end), "count": count} for start, end, count in runs]


class Access:
    """kernel_map, the current process's map, and the limit on wired pages."""

    def __init__(self, given: Json) -> None:
        self.kernel_map = Map.build(given.get("kernel_map", {}), KERNEL_MAP)
        self.user_map = Map.build(given["user_map"], USER_MAP) if "user_map" in given else None
        self.vm_page_max_wired = given.get("tunables", {}).get("vm_page_max_wired", 262144)
        self.wire_results = list(given.get("wire_results", []))

    def _acc(self, map: Map, name: str, addr: str, len: int, rw: int) -> Json:
        if rw & ~7:
            raise Panic(f"illegal ``rw'' argument to {name} ({rw % (1 << 32):x})")
        address = int(addr, 16)
        last = (address + len) % WORD
        if last > map.max_offset or last < address:
            return {"ok": False}
        return {"ok": map.check_protection(trunc_page(address), round_page(last), rw)}

    def kernacc(self, addr: str, len: int, prot: str = "-", prot_bits: int | None = None) -> Json:
        """kernacc."""
        return self._acc(self.kernel_map, "kernacc", addr, len, _bits(prot, prot_bits))

    def useracc(self, addr: str, len: int, prot: str = "-", prot_bits: int | None = None) -> Json:
        """useracc."""
        assert self.user_map is not None
        return self._acc(self.user_map, "useracc", addr, len, _bits(prot, prot_bits))

    def vslock(self, addr: str, len: str) -> Json:
        """vslock."""
        assert self.user_map is not None
        address = int(addr, 16)
        last = (address + int(len, 16)) % WORD
        start, end = trunc_page(address), round_page(last)
        if last < address or end < address:
            return {"error": "EINVAL"}
        if (end - start) % WORD // PAGE_SIZE > self.vm_page_max_wired % WORD:
            return {"error": "ENOMEM"}
        result = self.wire_results.pop(0) if self.wire_results else "MODEL"
        wired = self.user_map.wire(start, end) if result == "MODEL" else result == "KERN_SUCCESS"
        return {"error": None if wired else "EFAULT"}

    def vsunlock(self, addr: str, len: str) -> Json:
        """vsunlock."""
        assert self.user_map is not None
        address = int(addr, 16)
        self.user_map.unwire(trunc_page(address), round_page(address + int(len, 16)))
        return {}

    def set_tunable(self, name: str, value: int) -> Json:
        """The limit is set."""
        assert name == "vm_page_max_wired"
        self.vm_page_max_wired = c_int(value)
        return {}

    def final(self) -> Json:
        """Wired ranges of the user map."""
        return {} if self.user_map is None else {"wired": self.user_map.wired()}


def _bits(letters: str, bits: int | None) -> int:
    return prot_bits(letters) if bits is None else bits
