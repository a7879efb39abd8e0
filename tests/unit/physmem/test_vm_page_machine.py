"""The page array against a model of Python lists and dicts, under random calls."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from page_side import anonymous, give_block, page_side, sound

from services.physmem.page_array import PQ_ACTIVE, PQ_INACTIVE, PQ_NONE
from services.physmem.page_busy import vm_page_xunbusy
from services.physmem.state import ObjectType
from services.physmem.vm_page import (
    VM_ALLOC_INTERRUPT,
    VM_ALLOC_NOBUSY,
    VM_ALLOC_NORMAL,
    VM_ALLOC_SYSTEM,
    VM_ALLOC_WIRED,
    vm_page_activate,
    vm_page_alloc,
    vm_page_cache,
    vm_page_deactivate,
    vm_page_free,
    vm_page_grab,
    vm_page_hold,
    vm_page_requeue,
    vm_page_unhold,
    vm_page_unwire,
    vm_page_wire,
)
from services.ports.common import Suspension

PAGES = 50
FLOORS = {VM_ALLOC_NORMAL: 42, VM_ALLOC_SYSTEM: 2, VM_ALLOC_INTERRUPT: 0}
"""v_free_reserved of a machine of 50 pages is 8 + 34 + 0."""


@dataclass
class Page:
    """A page that is neither free nor cached."""

    owner: tuple[int, int] | None
    wired: int = 0
    held: int = 0
    busy: bool = False


class PageMachine(RuleBasedStateMachine):
    """Two objects, the first one in swap; the model knows each page's owner, wirings, holds and the queues' order."""

    def __init__(self):
        super().__init__()
        self.vm = page_side(PAGES)
        self.objects = [anonymous(self.vm, 60), anonymous(self.vm, 60)]
        self.objects[0].type = ObjectType.SWAP
        self.pages = {}
        self.queues = {PQ_INACTIVE: [], PQ_ACTIVE: []}
        self.cached = {}

    @property
    def available(self):
        return PAGES - len(self.pages)

    def owned(self, key):
        return next((m for m, page in self.pages.items() if page.owner == key), None)

    def dequeue(self, m):
        for queue in self.queues.values():
            if m in queue:
                queue.remove(m)

    keys = st.tuples(st.integers(0, 1), st.integers(0, 50))
    picks = st.integers(0, 1000)

    def pick(self, n, test):
        found = [m for m, page in sorted(self.pages.items()) if test(page)]
        return found[n % len(found)] if found else None

    def took(self, m, key, wired, busy):
        """A frame that was free or cached holds a page now."""
        assert m not in self.pages
        if key in self.cached:
            assert m == self.cached[key]
            assert self.vm.pages.valid[m] == 0xFF
        elif m in self.cached.values():
            assert len(self.cached) == self.available, "a cached page was taken although a page was free"
            assert m == next(iter(self.cached.values())), "not the page that was cached first"
        self.cached = {k: v for k, v in self.cached.items() if v != m}
        self.pages[m] = Page(key, wired, busy=busy)
        self.vm.pages.valid[m] = 0xFF

    @rule(key=keys, class_=st.sampled_from(list(FLOORS)), wired=st.booleans(), busy=st.booleans())
    def alloc(self, key, class_, wired, busy):
        if self.owned(key) is not None:
            return
        allowed = self.available > min(FLOORS[class_], FLOORS[VM_ALLOC_NORMAL])
        flags = (VM_ALLOC_WIRED if wired else 0) | (0 if busy else VM_ALLOC_NOBUSY)
        m = vm_page_alloc(self.vm, self.objects[key[0]], key[1], class_ | flags)
        assert (m is not None) == allowed
        if allowed:
            self.took(m, key, int(wired), busy)

    @rule(key=keys)
    def grab(self, key):
        resident, available = self.owned(key), self.available
        got = vm_page_grab(self.vm, self.objects[key[0]], key[1], VM_ALLOC_NOBUSY | VM_ALLOC_WIRED)
        if resident is None:
            assert isinstance(got, Suspension) == (available <= FLOORS[VM_ALLOC_NORMAL])
            if not isinstance(got, Suspension):
                self.took(got, key, 1, False)
        elif self.pages[resident].busy:
            assert got.channel == f"page:{resident}"
        else:
            assert got == resident
            self.pages[got].wired += 1
            self.dequeue(got)

    @rule(n=picks)
    def unbusy(self, n):
        if (m := self.pick(n, lambda page: page.busy)) is not None:
            vm_page_xunbusy(self.vm, m)
            self.pages[m].busy = False

    @rule(n=picks)
    def wire(self, n):
        if (m := self.pick(n, lambda page: page.owner)) is not None:
            vm_page_wire(self.vm, m)
            self.pages[m].wired += 1
            self.dequeue(m)

    @rule(n=picks, queue=st.sampled_from([PQ_INACTIVE, PQ_ACTIVE]))
    def unwire(self, n, queue):
        if (m := self.pick(n, lambda page: page.wired)) is not None:
            vm_page_unwire(self.vm, m, queue)
            self.pages[m].wired -= 1
            if self.pages[m].wired == 0:
                self.queues[queue].append(m)

    @rule(n=picks, to=st.sampled_from([PQ_INACTIVE, PQ_ACTIVE]))
    def move(self, n, to):
        if (m := self.pick(n, lambda page: page.owner)) is None:
            return
        (vm_page_activate if to == PQ_ACTIVE else vm_page_deactivate)(self.vm, m)
        if self.pages[m].wired == 0 and m not in self.queues[to]:
            self.dequeue(m)
            self.queues[to].append(m)

    @rule(n=picks)
    def requeue(self, n):
        queued = [*self.queues[PQ_INACTIVE], *self.queues[PQ_ACTIVE]]
        if queued:
            m = queued[n % len(queued)]
            queue = self.queues[PQ_ACTIVE if m in self.queues[PQ_ACTIVE] else PQ_INACTIVE]
            queue.append(queue.pop(queue.index(m)))
            vm_page_requeue(self.vm, m)

    @rule(n=picks)
    def hold(self, n):
        if (m := self.pick(n, lambda page: page.owner)) is not None:
            vm_page_hold(self.vm, m)
            self.pages[m].held += 1

    @rule(n=picks)
    def unhold(self, n):
        if (m := self.pick(n, lambda page: page.held)) is not None:
            vm_page_unhold(self.vm, m)
            self.pages[m].held -= 1
            if self.pages[m].held == 0 and self.pages[m].owner is None:
                del self.pages[m]

    @rule(n=picks)
    def free(self, n):
        if (m := self.pick(n, lambda page: page.owner and not page.wired)) is not None:
            vm_page_free(self.vm, m)
            self.dequeue(m)
            self.pages[m].owner, self.pages[m].busy = None, False
            if not self.pages[m].held:
                del self.pages[m]

    @rule(n=picks)
    def cache(self, n):
        m = self.pick(n, lambda page: page.owner and not (page.wired or page.held or page.busy))
        if m is not None:
            give_block(self.vm, m)
            vm_page_cache(self.vm, m)
            self.dequeue(m)
            self.cached[self.pages.pop(m).owner] = m

    @invariant()
    def same_pages(self):
        vm, pages = self.vm, self.vm.pages
        assert sound(vm) is True
        for queue, members in self.queues.items():
            assert pages.queued(queue) == members
        for m, page in self.pages.items():
            assert (pages.wire_count[m], pages.hold_count[m]) == (page.wired, page.held)
            assert (pages.busy_lock[m] & 2 != 0) == page.busy
            assert (pages.queue[m] == PQ_NONE) == all(m not in queue for queue in self.queues.values())
        for i, object_ in enumerate(self.objects):
            mine = {page.owner[1]: m for m, page in self.pages.items() if page.owner and page.owner[0] == i}
            assert object_.resident == mine
            assert object_.cached == {key[1]: m for key, m in self.cached.items() if key[0] == i}
        assert vm.cnt.v_cache_count == len(self.cached)
        assert vm.cnt.v_free_count + vm.cnt.v_cache_count == self.available
        assert vm.cnt.v_wire_count == sum(page.wired > 0 for page in self.pages.values())


TestPageMachine = PageMachine.TestCase
TestPageMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
