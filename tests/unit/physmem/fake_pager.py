"""A pager in memory that does what the port says and no more, for tests of physmem."""

import numpy as np

from services.ports.common import Empty
from services.ports.pager import (
    FileId,
    GetPagesStart,
    HasPage,
    IoStatus,
    ObjectKind,
    PageRange,
    PagesRead,
    PagesReadAll,
    Peek,
    PutChunk,
    PutPagesStart,
    PutPagesStartAll,
    PutRun,
    SwapStatus,
    VmPager,
)

PAGE = 4096
STAMP = [0, 1, 2, 3, 4, 511]


class FakePager:
    """Swap space as a dict; every read and write ends `latency_us` after it was started.

    Attributes:
        swap: Contents by object and pindex.
        file_contents: Contents of written pages of files, by file and pindex.
        contiguous: Runs of pages that one read may cover; by default everything is.
        calls: Names of the methods called, in order.
        broken: Pages (object or file, pindex) whose reads fail.
    """

    def __init__(self, ctx, swap_pages=1 << 20, latency_us=100):
        self.ctx, self.swap_pages, self.latency_us = ctx, swap_pages, latency_us
        self.swap, self.files, self.reads, self.writes = {}, {}, {}, {}
        self.seen, self.calls, self.broken, self.last_io = set(), [], set(), 0
        self.file_pages, self.file_contents = {}, {}
        self.max_read = 16

    def vnode_open(self, name, pages):
        self.calls.append("vnode_open")
        file = self.files.setdefault(name, len(self.files) + 1)
        self.file_pages[file] = max(pages, self.file_pages.get(file, 0))
        return FileId(file)

    def vm_pager_has_page(self, obj, kind, pindex):
        return HasPage(present=kind == ObjectKind.VNODE or (obj, pindex) in self.swap)

    def get_pages_start(self, obj, kind, file, pindex, behind, ahead, wired):
        self.calls.append("get_pages_start")
        assert not (wired and behind), "a kernel stack is read from the wanted page on"
        if kind == ObjectKind.VNODE:
            if pindex >= self.file_pages[file]:
                return GetPagesStart(VmPager.BAD)
            first, count = max(pindex - behind, 0), min(behind, pindex) + 1 + ahead
            data = [(np.arange(512, dtype=np.uint64) + file * 1000003 + p * 7919) for p in range(first, first + count)]
            for page in data:
                page[3] = page[511] = 0
            pages = [self.file_contents.get((file, first + i), page.tobytes()) for i, page in enumerate(data)]
            key = file
        else:
            if (obj, pindex) not in self.swap:
                return GetPagesStart(VmPager.FAIL)
            first = end = pindex
            while pindex - first < behind and end - first < self.max_read and (obj, first - 1) in self.swap:
                first -= 1
            while end - pindex < ahead and end - first + 1 < self.max_read and (obj, end + 1) in self.swap:
                end += 1
            count = end - first + 1
            pages = [self.swap[obj, p] for p in range(first, end + 1)]
            key = obj
        failed = any((key, p) in self.broken for p in range(first, first + count))
        self.last_io += 1
        self.reads[self.last_io] = PagesRead(VmPager.ERROR) if failed else PagesRead(VmPager.OK, b"".join(pages))
        return GetPagesStart(VmPager.PEND, self.last_io, self.ctx.now_us + self.latency_us, first, count)

    def get_pages_finish(self, ios):
        self.calls.append("get_pages_finish")
        return PagesReadAll([self.reads.pop(io) for io in ios])

    def put_pages_start(self, runs: list[PutRun], data, sync):
        self.calls.append("put_pages_start")
        assert not sync, "only the page daemon writes"
        answers, at = [], 0
        for run in runs:
            full = not run.file and len(self.swap) + run.count > self.swap_pages
            chunk = PutChunk(0, 0, run.first, run.count, VmPager.FAIL)
            if not full:
                kept, key = (self.file_contents, run.file) if run.file else (self.swap, run.obj)
                for p in range(run.first, run.first + run.count):
                    kept[key, p] = data[at + (p - run.first) * PAGE : at + (p - run.first + 1) * PAGE]
                self.last_io += 1
                self.writes[self.last_io] = VmPager.OK
                chunk = PutChunk(self.last_io, self.ctx.now_us + self.latency_us, run.first, run.count, VmPager.PEND)
            answers.append(PutPagesStart([chunk], not full and not run.file and run.obj not in self.seen))
            if not full:
                self.seen.add(run.obj)
            at += run.count * PAGE
        return PutPagesStartAll(answers)

    def put_pages_finish(self, ios):
        return IoStatus([self.writes.pop(io) for io in ios])

    def page_unswapped(self, ranges: list[PageRange]):
        self.calls.append("page_unswapped")
        for entry in ranges:
            for key in [k for k in self.swap if k[0] == entry.obj and 0 <= k[1] - entry.first < entry.count]:
                del self.swap[key]
        return Empty()

    def swap_copy(self, source, destination, offset, size, destroysource):
        self.calls.append("swap_copy")
        for obj, p in [k for k in self.swap if k[0] == source]:
            if destroysource or 0 <= p - offset < size:
                page = self.swap.pop((obj, p))
                if 0 <= p - offset < size:
                    self.swap.setdefault((destination, p - offset), page)
        return Empty()

    def dealloc(self, objects):
        self.calls.append("dealloc")
        gone = set(objects)
        self.swap = {k: v for k, v in self.swap.items() if k[0] not in gone}
        return Empty()

    def swap_status(self):
        used = len(self.swap)
        return SwapStatus(total=self.swap_pages, used=used, avail=self.swap_pages - used)

    def peek(self, obj, pindexes):
        self.calls.append("peek")
        present = [(obj, p) in self.swap for p in pindexes]
        rows = [
            np.frombuffer(self.swap[obj, p], np.uint64)[STAMP] if here else np.zeros(6, np.uint64)
            for p, here in zip(pindexes, present, strict=True)
        ]
        return Peek(present, np.array(rows, np.uint64).tobytes())
