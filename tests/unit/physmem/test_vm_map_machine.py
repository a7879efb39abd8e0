"""Maps against a model that knows one page at a time: inserts, removals, protections, wirings, access checks."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from map_side import BASE, PAGE, MapSide

from services.physmem.glue import ENOMEM
from services.physmem.vm_mmap import EAGAIN
from services.ports.physmem import KERNEL_SPACE, AccessCheck, KernReturn, MapOp, MapOpKind

PAGES = 24
"""Pages of the range that the machine works on; the map's last page is PAGES - 4."""
MAX = PAGES - 4
FAIL = object()

first_page = st.integers(0, PAGES - 1)
page_count = st.integers(0, 8)


class NaivePage:
    """One mapped page."""

    def __init__(self, prot, unfaultable):
        self.prot, self.unfaultable, self.wired, self.locked = prot, unfaultable, 0, False

    def cannot_be_wired(self):
        """It would have to be brought in first."""
        return self.unfaultable and not self.wired and not self.locked


class MapMachine(RuleBasedStateMachine):
    """Every answer and every wire count is what the naive pages say."""

    def __init__(self):
        super().__init__()
        self.side = MapSide(pages=512)
        self.space = self.side.core.vmspace_alloc(BASE, BASE + MAX * PAGE).vmspace
        self.pages = {}

    def change(self, kind, first, count, **fields):
        op = MapOp(kind, BASE + first * PAGE, count * PAGE, **fields)
        return self.side.core.map_ops(self.space, [op], 0).results[0]

    @rule(first=first_page, count=page_count, prot=st.integers(0, 7), unfaultable=st.booleans())
    def insert(self, first, count, prot, unfaultable):
        result = self.change(MapOpKind.INSERT, first, count, prot=prot, unfaultable=unfaultable)
        wanted = range(first, first + count)
        if count == 0 or first + count > MAX:
            assert result == KernReturn.INVALID_ADDRESS
        elif any(page in self.pages for page in wanted):
            assert result == KernReturn.NO_SPACE
        else:
            assert result == KernReturn.SUCCESS
            self.pages |= {page: NaivePage(prot, unfaultable) for page in wanted}

    @rule(first=first_page, count=page_count)
    def remove(self, first, count):
        wanted = [page for page in range(first, first + count) if page in self.pages]
        if any(self.pages[page].wired for page in wanted):
            return
        assert self.change(MapOpKind.REMOVE, first, count) == KernReturn.SUCCESS
        for page in wanted:
            del self.pages[page]

    @rule(first=first_page, count=page_count, prot=st.integers(0, 7))
    def protect(self, first, count, prot):
        assert self.change(MapOpKind.PROTECT, first, count, prot=prot) == KernReturn.SUCCESS
        for page in range(first, first + count):
            if page in self.pages:
                self.pages[page].prot = prot

    @rule(first=first_page, count=page_count)
    def wire(self, first, count):
        result = self.change(MapOpKind.WIRE, first, count)
        wanted = self.clipped(first, count)
        if wanted is not FAIL and any(self.pages[page].prot & 5 == 0 for page in wanted):
            wanted = FAIL
        if wanted is not FAIL and any(self.pages[page].cannot_be_wired() for page in wanted):
            wanted = FAIL
        assert (result == KernReturn.SUCCESS) == (wanted is not FAIL)
        for page in [] if wanted is FAIL else wanted:
            self.pages[page].wired += 1

    @rule(first=first_page, count=page_count)
    def unwire(self, first, count):
        result = self.change(MapOpKind.UNWIRE, first, count)
        wanted = self.clipped(first, count)
        if wanted is not FAIL and any(self.pages[page].wired == 0 for page in wanted):
            wanted = FAIL
        assert (result == KernReturn.SUCCESS) == (wanted is not FAIL)
        for page in [] if wanted is FAIL else wanted:
            self.pages[page].wired -= 1

    @rule(first=first_page, count=page_count)
    def mlock(self, first, count):
        error = self.side.core.mlock(self.space, (BASE // PAGE + first) * PAGE, count * PAGE, 1 << 62, 0).error
        wanted = self.clipped(first, count)
        if wanted is not FAIL and any(self.pages[page].prot & 5 == 0 for page in wanted):
            wanted = FAIL
        if wanted is not FAIL and any(self.pages[page].cannot_be_wired() for page in wanted):
            wanted = FAIL
        assert error == (ENOMEM if wanted is FAIL else 0)
        for page in [] if wanted is FAIL else wanted:
            self.pages[page].locked = True

    @rule(first=first_page, count=page_count)
    def munlock(self, first, count):
        error = self.side.core.munlock(self.space, (BASE // PAGE + first) * PAGE, count * PAGE).error
        wanted = self.clipped(first, count)
        assert error == (ENOMEM if wanted is FAIL else 0)
        for page in [] if wanted is FAIL else wanted:
            self.pages[page].locked = False

    @rule(lock=st.booleans())
    def all_of_it(self, lock):
        """Holes and what may not be accessed are passed over; what cannot be brought in fails all."""
        if not lock:
            assert self.side.core.munlockall(self.space).error == 0
        else:
            reach = [page for page in self.pages.values() if page.prot & 5]
            fails = any(page.cannot_be_wired() for page in reach)
            assert self.side.core.mlockall(self.space, 1, 1 << 62, 0).error == (EAGAIN if fails else 0)
            if fails:
                return
        for page in self.pages.values():
            page.locked = lock and (page.locked or page.prot & 5 != 0)

    def clipped(self, first, count):
        """Pages of a range as vm_map_wire and vm_map_unwire see them, or FAIL."""
        if count == 0:
            return []
        start, end = min(first, MAX), min(first + count, MAX)
        wanted = range(start, end)
        if start not in self.pages or any(page not in self.pages for page in wanted):
            return FAIL
        return wanted

    @rule(addr=st.integers(0, PAGES * PAGE), length=st.integers(-PAGE, 9 * PAGE), prot=st.integers(0, 7))
    def useracc(self, addr, length, prot):
        first, end = addr // PAGE, -(-(addr + length) // PAGE)
        granted = length >= 0 and addr + length <= MAX * PAGE and first in self.pages
        granted = granted and all(p in self.pages and self.pages[p].prot & prot == prot for p in range(first, end))
        check = AccessCheck(BASE + addr, length, prot)
        assert self.side.core.useracc(self.space, [check]).ok == [granted]

    @rule()
    def fork_and_free(self):
        """A child is never wired, and its end takes nothing away from the parent."""
        child = self.side.core.vmspace_fork(self.space).vmspace
        assert self.side.core.wired_ranges(child).ranges == []
        assert self.side.core.check().violations == []
        self.side.core.vmspace_free([child])

    @invariant()
    def counts_agree(self):
        shown = {}
        for entry in self.side.core.wired_ranges(self.space).ranges:
            for page in range((entry.start - BASE) // PAGE, (entry.end - BASE) // PAGE):
                shown[page] = (entry.count, entry.user)
        wired = {page: (entry.wired, entry.locked) for page, entry in self.pages.items()}
        assert shown == {page: counts for page, counts in wired.items() if any(counts)}
        assert self.side.vm.cnt.v_wire_count == len(shown)
        assert self.side.core.check().violations == []
        assert self.side.core.wired_ranges(KERNEL_SPACE).ranges == []


TestMapMachine = MapMachine.TestCase
TestMapMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
