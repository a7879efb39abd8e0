"""The pager against the naive model: allocation, metadata, clusters, contents and books, step by step."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from naive_pager import NaivePager
from pager_setup import booted, booted_with, get, page, put, put_file

from hardware_sim.disk import KINDS
from services.ports.pager import ObjectKind, PageRange, SwapDisk, VmPager

objects = st.integers(1, 3)
pindexes = st.integers(0, 70)
FILE_PAGES = 41


class PagerMachine(RuleBasedStateMachine):
    """Pages of four objects go out, come in, are freed, handed on and forgotten; those of a file keep their places."""

    @initialize(sizes=st.lists(st.integers(3, 700), max_size=3))
    def boot(self, sizes):
        self.core = booted_with([SwapDisk(pages, kind) for pages, kind in zip(sizes, sorted(KINDS), strict=False)])
        self.naive, self.written = NaivePager(sizes), 0
        self.file = self.core.vnode_open("data", FILE_PAGES).file
        self.file_pages = [get(self.core, 0, ObjectKind.VNODE, p, file=self.file)[2].data for p in range(FILE_PAGES)]

    @rule(number=st.integers(0, 3))
    def swapon(self, number):
        expected = self.naive.swapon(number) if number < len(self.naive.sizes) else 19
        assert self.core.swapon(number).error == expected

    @rule(number=st.integers(0, 2), free_pages=st.integers(0, 800))
    def swapoff(self, number, free_pages):
        expected = self.naive.swapoff_begin(number, free_pages)
        assert self.core.swapoff_begin(number, free_pages).error == expected

    @rule(number=st.integers(0, 2), count=st.integers(1, 1000), limit=st.integers(1, 100))
    def page_in(self, number, count, limit):
        if not any(device.number == number and device.closing for device in self.naive.devices):
            assert self.core.swapoff_pages(number + 10, 0, 0, limit).objects == []
            return
        pages = self.naive.on_device(number)
        first = pages[len(pages) // 2] if pages else (0, 0)
        found = self.core.swapoff_pages(number, *first, limit)
        expected = pages[len(pages) // 2 :][:limit]
        assert list(zip(found.objects, found.pindexes, strict=True)) == expected
        for key in pages[:count]:
            self.core.page_unswapped([PageRange(*key, 1)])
            self.naive.release(key)
        assert self.core.swapoff_end(number).used == self.naive.swapoff_end(number)

    @rule(obj=objects, first=pindexes, count=st.integers(1, 40))
    def put(self, obj, first, count):
        numbers = range(self.written, self.written + count)
        self.written += count
        chunks = put(self.core, obj, first, *numbers)
        expected = self.naive.put(obj, first, [page(number) for number in numbers])
        assert [(chunk.first, chunk.count, chunk.status is VmPager.PEND) for chunk in chunks] == expected

    @rule(first=st.integers(0, 40), count=st.integers(1, 40))
    def put_file(self, first, count):
        count = min(count, FILE_PAGES - first)
        numbers = range(self.written, self.written + count)
        self.written += count
        assert set(put_file(self.core, self.file, first, *numbers)) == {VmPager.OK}
        self.file_pages[first : first + count] = [page(number) for number in numbers]

    @rule(pindex=st.integers(0, 40), behind=st.integers(0, 8), ahead=st.integers(0, 31))
    def get_file(self, pindex, behind, ahead):
        first, count, read = get(self.core, 0, ObjectKind.VNODE, pindex, behind, ahead, self.file)
        assert (first, count) == (
            max(pindex - behind, 0),
            min(pindex + ahead + 1, FILE_PAGES) - max(pindex - behind, 0),
        )
        assert read.data == b"".join(self.file_pages[first : first + count])

    @rule(obj=objects, pindex=pindexes, behind=st.integers(0, 20), ahead=st.integers(0, 20))
    def get(self, obj, pindex, behind, ahead):
        run = self.naive.run(obj, pindex, behind, ahead)
        if run is None:
            start = self.core.get_pages_start(obj, ObjectKind.SWAP, 0, pindex, behind, ahead, False)
            assert start.status is VmPager.FAIL
            return
        first, count, read = get(self.core, obj, ObjectKind.SWAP, pindex, behind, ahead)
        assert (first, count) == run
        assert (read.status, read.data) == (VmPager.OK, self.naive.read(obj, first, count))

    @rule(ranges=st.lists(st.tuples(objects, pindexes, st.integers(1, 100) | st.just(2**40)), max_size=4))
    def free(self, ranges):
        self.core.page_unswapped([PageRange(*entry) for entry in ranges])
        for obj, first, count in ranges:
            for key in [key for key in self.naive.swap if key[0] == obj and 0 <= key[1] - first < count]:
                self.naive.release(key)

    @rule(
        source=objects, destination=objects, offset=st.integers(0, 40), size=st.integers(1, 80), destroy=st.booleans()
    )
    def copy(self, source, destination, offset, size, destroy):
        if source != destination:
            self.core.swap_copy(source, destination, offset, size, destroy)
            self.naive.copy(source, destination, offset, size, destroy)

    @rule(gone=st.lists(objects, max_size=2))
    def dealloc(self, gone):
        self.core.dealloc(gone)
        for obj in gone:
            self.naive.dealloc(obj)

    @rule(obj=objects, wanted=st.lists(pindexes, max_size=12))
    def peek(self, obj, wanted):
        peek = self.core.peek(obj, wanted)
        stamps = b""
        for pindex in wanted:
            data = self.naive.read(obj, pindex, 1) if (obj, pindex) in self.naive.swap else bytes(4096)
            stamps += data[:40] + data[-8:]
        assert peek.present == [(obj, pindex) in self.naive.swap for pindex in wanted]
        assert peek.stamps == stamps

    @rule(obj=objects, pindex=pindexes)
    def has_page(self, obj, pindex):
        has, run = self.core.vm_pager_has_page(obj, ObjectKind.SWAP, pindex), self.naive.run(obj, pindex, 7, 7)
        assert has.present == (run is not None)
        if run is not None:
            assert (pindex - has.before, has.before + 1 + has.after) == run

    @invariant()
    def same_books(self):
        status, naive = self.core.swap_status(), self.naive
        assert (status.used, status.avail) == (len(naive.swap), naive.avail)
        assert [(row.device, row.pages, row.flags == 4) for row in status.devices] == [
            (device.number, device.nblks, device.closing) for device in naive.devices
        ]
        assert (status.full, status.almost_full) == (naive.full, naive.almost_full)
        assert status.meta_blocks == len({(obj, pindex // 32) for obj, pindex in naive.swap})
        assert set(self.core._swap.meta.objects) == naive.converted
        assert self.core.check().violations == []

    def teardown(self):
        if hasattr(self, "core"):
            self.core.close()


PagerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPagerMachine = PagerMachine.TestCase


runs = st.lists(st.tuples(pindexes, st.integers(1, 20)), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(below=runs, above=runs, offset=st.integers(0, 40), size=st.integers(1, 80))
def test_a_shadow_takes_what_it_lacks(below, above, offset, size):
    core, naive, written = booted(swap_pages=500), NaivePager([500]), 0
    for obj, runs_of_obj in ((1, below), (2, above)):
        for first, count in runs_of_obj:
            numbers = range(written, written + count)
            written += count
            put(core, obj, first, *numbers)
            naive.put(obj, first, [page(number) for number in numbers])
    core.swap_copy(1, 2, offset, size, True)
    naive.copy(1, 2, offset, size, True)
    assert core.check().violations == []
    assert core.swap_status().used == len(naive.swap)
    for _, pindex in naive.swap:
        assert get(core, 2, ObjectKind.SWAP, pindex)[2].data == naive.read(2, pindex, 1)
    core.close()
