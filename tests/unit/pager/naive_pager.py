"""A plain model of swap_pager.c with one device: dicts of pages and blocks, loops over single pages."""

from dataclasses import dataclass, field


@dataclass
class NaivePager:
    """Blocks, free ones, and which page has which block with which contents."""

    nblks: int
    swap: dict = field(default_factory=dict)
    contents: dict = field(default_factory=dict)
    converted: set = field(default_factory=set)
    full: int = 2
    almost_full: int = 1

    def __post_init__(self):
        self.free = set(range(2, self.nblks))
        self.avail = self.nblks
        self.sizecheck()

    def sizecheck(self):
        if self.avail < 128:
            self.almost_full = 1
        else:
            self.full = 0
            if self.avail > 512:
                self.almost_full = 0

    def getswapspace(self, npages):
        for leaf in range(0, self.nblks, 32):
            for first in range(leaf, leaf + 32 - npages + 1):
                if all(block in self.free for block in range(first, first + npages)):
                    self.free -= set(range(first, first + npages))
                    self.avail -= npages
                    self.sizecheck()
                    return first
        if self.full != 2:
            self.full, self.almost_full = 2, 1
        return None

    def release(self, key):
        block = self.swap.pop(key, None)
        if block is not None:
            self.free.add(block)
            self.avail += 1
            self.sizecheck()

    def put(self, obj, first, pages):
        """putpages; returns (first, count, written) of each chunk."""
        self.converted.add(obj)
        chunks, i = [], 0
        while i < len(pages):
            n = min(32, len(pages) - i, 16)
            block = self.getswapspace(n)
            while block is None and n > 4:
                n >>= 1
                block = self.getswapspace(n)
            chunks.append((first + i, n, block is not None))
            if block is not None:
                for j in range(n):
                    self.release((obj, first + i + j))
                    self.swap[obj, first + i + j] = block + j
                    self.contents[block + j] = pages[i + j]
            i += n
        return chunks

    def run(self, obj, pindex, behind, ahead):
        """First page and count of a read; None if the page is not in swap."""
        block = self.swap.get((obj, pindex))
        if block is None:
            return None
        first = last = pindex
        while pindex - first < behind and self.swap.get((obj, first - 1)) == block - (pindex - first) - 1:
            first -= 1
        while last - pindex < ahead and self.swap.get((obj, last + 1)) == block + (last - pindex) + 1:
            last += 1
        return first, last - first + 1

    def read(self, obj, first, count):
        return b"".join(self.contents[self.swap[obj, pindex]] for pindex in range(first, first + count))

    def copy(self, source, destination, offset, size, destroysource):
        for i in range(size):
            key = (source, i + offset)
            if key in self.swap and (destination, i) not in self.swap:
                self.swap[destination, i] = self.swap.pop(key)
                self.converted.add(destination)
        if destroysource:
            self.dealloc(source)
        for i in range(size):
            self.release((source, i + offset))

    def dealloc(self, obj):
        self.converted.discard(obj)
        for key in [key for key in self.swap if key[0] == obj]:
            self.release(key)
