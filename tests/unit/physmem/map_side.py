"""A whole physmem core over the fake pager, with just enough of a scheduler to run references until they are done."""

import numpy as np
from fake_pager import FakePager

from clients.integrity import Shadow
from services.physmem.core import PhysmemCore
from services.physmem.state import vm_pager_flush
from services.physmem.vm_page import vm_page_cache_free
from services.ports.common import Stop
from services.ports.physmem import KernReturn, MapOp, MapOpKind, PhysmemBoot, RssLimit
from services.runtime.context import Context

PAGE = 4096
LOAD, STORE, EXEC = 1, 2, 4
SEED = 7
BASE = 0x10000
"""First address that the tests map."""
FIRST = BASE // PAGE
"""Its page number."""


def record(vpn, kinds, refs=1, instructions=10):
    """One packed run record."""
    return vpn << 27 | kinds << 24 | refs << 12 | instructions


def runs(*records):
    """Packed records as the port takes them."""
    return np.array(records, np.uint64).tobytes()


class MapSide:
    """One machine.

    Attributes:
        shadow: Expected contents of all pages, counted from the executed records alone.
        ios: Device operations under way: id and virtual end.
        sleeps: Wait messages of the sleeps so far.
    """

    def __init__(self, pages=1024, swap_pages=1 << 20, **config):
        self.ctx = Context("physmem", inject_permitted=True)
        self.pager = FakePager(self.ctx, swap_pages)
        self.core = PhysmemCore(self.ctx, self.pager)
        self.core.boot(PhysmemBoot(ram_pages=pages, seed=SEED, allow_inject=True, **config))
        self.vm = self.core.vm
        self.shadow = Shadow(SEED)
        self.ios, self.sleeps, self.wakeups = [], [], []
        self.now_us = 0

    def space(self, pages=0, **insert):
        """A new address space, with `pages` anonymous pages at BASE."""
        vmspace = self.core.vmspace_alloc(0, 0).vmspace
        if pages:
            self.map(vmspace, pages, **insert)
        return vmspace

    def map(self, vmspace, pages, start=BASE, prot=3, **insert):
        """Map pages."""
        op = MapOp(MapOpKind.INSERT, start, pages * PAGE, prot=prot, **insert)
        assert self.core.map_ops(vmspace, [op], 0).results == [KernReturn.SUCCESS]

    def fork(self, vmspace):
        """Fork an address space."""
        child = self.core.vmspace_fork(vmspace).vmspace
        self.shadow.forked(vmspace, child)
        return child

    def settle(self):
        """Take over what a call left: operations started, wakeups."""
        upcalls = self.ctx.take_upcalls()
        self.ios += [(io.io, io.due_us) for io in upcalls.ios]
        self.wakeups += upcalls.wakeups
        return upcalls

    def complete(self):
        """Let the clock run until every device operation under way has ended."""
        self.settle()
        if self.ios:
            self.now_us = max(self.now_us, max(due for _, due in self.ios))
            self.ctx.now_us = self.now_us
            ios, self.ios = [io for io, _ in sorted(self.ios, key=lambda entry: (entry[1], entry[0]))], []
            self.core.complete_io(ios)
            self.settle()

    def pageout(self, passes=1):
        """Run the page daemon, and end its writes."""
        for pass_ in range(1, passes + 1):
            self.core.pageout_begin(pass_)
            self.core.pageout_scan(pass_)
            self.complete()
        self.core.pageout_wait_test()
        self.settle()

    def access(self, vmspace, data, start=0, op=0, budget_us=10**9, phase=0):
        """One call of access, with the shadow counting along."""
        self.ctx.now_us = self.now_us
        answer = self.core.access(vmspace, data, start, budget_us, phase, op)
        self.now_us += answer.outcome.elapsed_us
        records = np.frombuffer(data, np.uint64)
        self.shadow.executed(vmspace, records, start, answer.outcome.next_record, answer.observed)
        return answer

    def run(self, vmspace, data):
        """Run records to their end, with device operations and the page daemon as they are wanted."""
        start = op = 0
        for _ in range(100_000):
            outcome = self.access(vmspace, data, start, op).outcome
            start, op = outcome.next_record, 0
            wanted = self.settle().pagedaemon_wanted
            if outcome.stop is Stop.END:
                return outcome
            assert outcome.stop in (Stop.SUSPENDED, Stop.YIELD), outcome
            if outcome.stop is Stop.SUSPENDED:
                op = outcome.suspension.op
                self.sleeps.append(outcome.suspension.wmesg)
            self.complete()
            if wanted or outcome.stop is Stop.YIELD or (outcome.suspension and outcome.suspension.wmesg == "pfault"):
                self.pageout(passes=2)
        raise AssertionError("the records do not come to an end")

    def evict(self, vmspace):
        """Page an address space out altogether: its pages go to swap and their frames are reused."""
        self.core.map_deactivate([RssLimit(vmspace, 0)])
        target = self.vm.cnt.v_free_target
        self.vm.cnt.v_free_target = 2 * self.vm.pages.count
        for _ in range(100):
            self.core.pageout_scan(2)
            self.complete()
            if self.vm.cnt.v_active_count + self.vm.cnt.v_inactive_count == 0:
                break
        self.vm.cnt.v_free_target = target
        for obj in self.vm.objects:
            vm_page_cache_free(self.vm, obj)

    def verify(self, *vmspaces):
        """All pages hold what the executed stores explain, and all invariants hold."""
        for vmspace in vmspaces:
            stamps = self.core.vmspace_stamps(vmspace)
            self.shadow.verify(vmspace, stamps.vpns, stamps.words)
        assert self.shadow.mismatches == []
        assert self.core.check().violations == []
        vm_pager_flush(self.vm)
        assert {(obj.id, pindex) for obj in self.vm.objects for pindex in obj.swapped} == set(self.pager.swap)
