"""A plain model of swap_pager.c: dicts of pages and blocks, loops over single pages and devices."""

from dataclasses import dataclass, field


@dataclass
class NaiveDevice:
    """A swap device: its blocks have the numbers from `first` on."""

    number: int
    nblks: int
    first: int
    closing: bool = False

    def __post_init__(self):
        self.free = set(range(self.first + 2, self.first + self.nblks))

    def __contains__(self, block):
        return self.first <= block < self.first + self.nblks


@dataclass
class NaivePager:
    """Blocks, free ones, and which page has which block with which contents."""

    sizes: list
    devices: list = field(default_factory=list)
    swap: dict = field(default_factory=dict)
    contents: dict = field(default_factory=dict)
    converted: set = field(default_factory=set)
    avail: int = 0
    full: int = 2
    almost_full: int = 1
    turn: NaiveDevice | None = None

    def __post_init__(self):
        for number in range(len(self.sizes)):
            self.swapon(number)

    def swapon(self, number):
        if any(device.number == number for device in self.devices):
            return 16
        first = max((device.first + device.nblks + 1 for device in self.devices), default=0)
        self.devices.append(NaiveDevice(number, self.sizes[number], first))
        self.avail += self.sizes[number]
        self.sizecheck()
        return 0

    def swapoff_begin(self, number, free_pages):
        device = next((device for device in self.devices if device.number == number and not device.closing), None)
        if device is None:
            return 22
        if free_pages + self.avail < device.nblks + 128:
            return 12
        device.closing = True
        self.avail -= len(device.free)
        device.free = set()
        return 0

    def on_device(self, number):
        device = next(device for device in self.devices if device.number == number)
        return sorted(page for page, block in self.swap.items() if block in device)

    def swapoff_end(self, number):
        used = len(self.on_device(number))
        if not used:
            device = next(device for device in self.devices if device.number == number)
            if self.turn is device:
                self.turn = None
            self.devices.remove(device)
            if not self.devices:
                self.full, self.almost_full = 2, 1
        return used

    def sizecheck(self):
        if self.avail < 128:
            self.almost_full = 1
        else:
            self.full = 0
            if self.avail > 512:
                self.almost_full = 0

    def getswapspace(self, npages):
        start = self.devices.index(self.turn) if self.turn else 0
        for device in self.devices[start:] + self.devices[:start]:
            block = None if device.closing else self.take(device, npages)
            if block is not None:
                following = self.devices.index(device) + 1
                self.turn = self.devices[following] if following < len(self.devices) else None
                self.avail -= npages
                self.sizecheck()
                return block
        self.turn = None
        if self.full != 2:
            self.full, self.almost_full = 2, 1
        return None

    def take(self, device, npages):
        for leaf in range(0, device.nblks, 32):
            for at in range(leaf, leaf + 32 - npages + 1):
                run = range(device.first + at, device.first + at + npages)
                if all(block in device.free for block in run):
                    device.free -= set(run)
                    return run[0]
        return None

    def release(self, key):
        block = self.swap.pop(key, None)
        if block is not None:
            device = next(device for device in self.devices if block in device)
            if not device.closing:
                device.free.add(block)
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
