"""Swap-ins and wirings that sleep, many at a time, resumed by operation id in any order, against the naive models."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from map_side import BASE, FIRST, PAGE, STORE, MapSide, record, runs
from naive.access import Map
from naive.stacks import Pager, Stack

from hardware_sim.cpu import Pcb
from services.physmem.vm_page import vm_page_cache_free
from services.ports.common import Status, Suspension
from services.ports.physmem import MapOp, MapOpKind, SwapStack

STACKS = (4, 4, 2, 4, 1)
USER_PAGES = 20
RAM_PAGES = 110
TURNS_MAX = 300
EFAULT = 14


class SuspendedMachine(RuleBasedStateMachine):
    """Stacks go out and come in, ranges are wired; pages are written, busy, gone, and read again meanwhile.

    Attributes:
        out: Positions of the stacks that are out, and that nobody brings in.
        swapins: Stacks of each sleeping swap-in, by operation.
        wirings: Range of each sleeping vslock, by operation.
    """

    @initialize(forbidden=st.sets(st.integers(0, USER_PAGES - 1), max_size=2))
    def boot(self, forbidden):
        self.side = side = MapSide(pages=RAM_PAGES)
        self.stacks = [built.stack for built in side.core.stack_create(list(STACKS), 0).stacks]
        self.models = [Stack(None, True, size) for size in STACKS]
        self.space = side.space(USER_PAGES)
        side.run(self.space, runs(*(record(FIRST + page, STORE) for page in range(USER_PAGES))))
        self.map = Map(0, 1 << 47, [])
        for page in range(USER_PAGES):
            prot = 2 if page in forbidden else 3
            if page in forbidden:
                self.protect(page)
            self.map.entries.append((BASE + page * PAGE, BASE + (page + 1) * PAGE, prot, False))
        self.saved, self.out, self.swapins, self.wirings, self.wired = {}, [], {}, {}, []
        self.switches = 0

    def protect(self, page):
        """A page that cannot be wired: neither readable nor executable."""
        op = MapOp(MapOpKind.PROTECT, BASE + page * PAGE, PAGE, prot=2)
        self.side.core.map_ops(self.space, [op], 0)

    # stacks

    @precondition(lambda self: self.inside())
    @rule(data=st.data())
    def swap_out(self, data):
        at = data.draw(st.sampled_from(self.inside()))
        self.switches += 1
        self.saved[at] = Pcb(tid=at, pid=at, references=self.switches).pack()
        self.side.core.stack_swapout([SwapStack(self.stacks[at], self.saved[at], at)])
        self.models[at].swapout()
        self.out.append(at)

    def inside(self):
        coming = {at for request in self.swapins.values() for at in request}
        return [at for at in range(len(STACKS)) if at not in self.out and at not in coming]

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def swap_in(self, data):
        wanted = data.draw(st.lists(st.sampled_from(self.out), min_size=1, max_size=3, unique=True))
        self.out = [at for at in self.out if at not in wanted]
        self.came_in(wanted, self.side.core.stack_swapin(self.request(wanted), 0))

    def request(self, wanted):
        return [SwapStack(self.stacks[at], pid=at) for at in wanted]

    def came_in(self, wanted, answer):
        if answer.status is Status.SUSPENDED:
            self.swapins[answer.suspension.op] = wanted
            return
        assert answer.pcbs == [self.saved[at] for at in wanted]
        for at in wanted:
            self.models[at].swapin(Pager([]), at)
            found = self.shown(at)
            wanted_state = self.models[at].state()
            for key in ("mapped", "valid", "wired", "queue", "busy"):
                assert getattr(found, key) == wanted_state[key], key

    def shown(self, at):
        return self.side.core.object_pages([self.stacks[at]]).objects[0]

    # wirings

    @rule(first=st.integers(0, USER_PAGES - 1), count=st.integers(1, 8))
    def vslock(self, first, count):
        start, length = BASE + first * PAGE, min(count, USER_PAGES - first) * PAGE
        self.locked(start, length, self.side.core.vslock(self.space, start, length, 0))

    def locked(self, start, length, answer):
        if answer.status is Status.SUSPENDED:
            self.wirings[answer.suspension.op] = start, length
        elif self.map.wire(start, start + length):
            assert answer.error == 0
            self.wired.append((start, length))
        else:
            assert answer.error == EFAULT, "a page of the range cannot be wired: nothing of it is"

    @precondition(lambda self: self.wired)
    @rule(data=st.data())
    def vsunlock(self, data):
        start, length = self.wired.pop(data.draw(st.integers(0, len(self.wired) - 1)))
        self.side.core.vsunlock(self.space, start, length)
        self.map.unwire(start, start + length)

    # what goes on meanwhile

    @precondition(lambda self: self.swapins or self.wirings)
    @rule(data=st.data())
    def resume(self, data):
        op = data.draw(st.sampled_from(sorted([*self.swapins, *self.wirings])))
        self.go_on(op)

    def go_on(self, op):
        if op in self.swapins:
            wanted = self.swapins.pop(op)
            answer = self.side.core.stack_swapin(self.request(wanted), op)
            self.came_in(wanted, answer)
        else:
            start, length = self.wirings.pop(op)
            answer = self.side.core.vslock(self.space, start, length, op)
            self.locked(start, length, answer)
        if answer.status is Status.SUSPENDED:
            assert isinstance(answer.suspension, Suspension)
            assert answer.suspension.op == op, "a sleeping operation keeps its id"

    @rule(pages=st.integers(1, 60), pass_=st.sampled_from([1, 2, 2]))
    def the_page_daemon_works(self, pages, pass_):
        self.side.vm.vm_pageout_deficit += pages
        self.side.core.pageout_scan(pass_)
        self.side.settle()

    @rule()
    def cached_pages_are_reused(self):
        for obj in self.side.vm.objects:
            vm_page_cache_free(self.side.vm, obj)

    @rule()
    def all_memory_is_wanted_elsewhere(self):
        self.side.evict(self.space)

    @rule(data=st.data())
    def a_device_ends_an_operation(self, data):
        side = self.side
        side.settle()
        if side.ios:
            io, due = side.ios.pop(data.draw(st.integers(0, len(side.ios) - 1)))
            side.now_us = side.ctx.now_us = max(side.now_us, due)
            side.core.complete_io([io])
            side.settle()

    @invariant()
    def nothing_is_broken(self):
        assert self.side.core.check().violations == []

    @invariant()
    def stacks_are_what_the_model_says(self):
        for at in [*self.out, *self.inside()]:
            found, model = self.shown(at), self.models[at]
            model.evict([i for i, valid in enumerate(found.valid) if valid == "-"])
            wanted = model.state()
            assert (found.mapped, found.valid, found.wired) == (wanted["mapped"], wanted["valid"], wanted["wired"])

    @invariant()
    def wirings_are_what_the_model_says(self):
        """A wiring under way counts already for the entries that it has come to."""
        shown, under_way = Counter(), Counter()
        for entry in self.side.core.wired_ranges(self.space).ranges:
            shown.update(dict.fromkeys(range(entry.start, entry.end, PAGE), entry.count))
        for start, length in self.wirings.values():
            under_way.update(range(start, start + length, PAGE))
        for page in range(BASE, BASE + USER_PAGES * PAGE, PAGE):
            done = self.map.counts.get(page, 0)
            assert done <= shown[page] <= done + under_way[page]

    def teardown(self):
        """Whatever sleeps comes to its end."""
        if not hasattr(self, "side"):
            return
        for _ in range(TURNS_MAX):
            if not self.swapins and not self.wirings:
                break
            self.side.complete()
            self.side.pageout(passes=2)
            for op in sorted([*self.swapins, *self.wirings]):
                self.go_on(op)
        assert not self.swapins
        assert not self.wirings
        self.nothing_is_broken()
        self.wirings_are_what_the_model_says()


SuspendedMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSuspendedMachine = SuspendedMachine.TestCase
