"""Physical memory for tests of kstack: it does what the port says about stacks and kernel memory, and no more."""

from dataclasses import dataclass, field

from services.ports.common import Empty, Status, Suspension
from services.ports.physmem import (
    KmemData,
    KvaFreed,
    ObjectPages,
    ObjectsPages,
    PageRequest,
    StackBuilt,
    StackPages,
    StacksBuilt,
    StacksIn,
)
from services.runtime.errors import KernelPanic

PAGE = 4096
PVM = 84


@dataclass
class Page:
    """One page: its bytes and what the strings of ObjectPages tell."""

    data: bytearray = field(default_factory=lambda: bytearray(PAGE))
    wired: int = 1
    dirty: bool = False


@dataclass
class Building:
    """A stack_create request."""

    sizes: list
    stacks: list = field(default_factory=list)


class FakePhysmem:
    """Objects, kernel memory and what memory is short of.

    Attributes:
        free_pages: Pages that are left; a stack that needs more sleeps until there are some.
        kva_fail: Ordinal numbers (from 1) of the kernel address allocations that fail.
        swapin_sleeps: How often the next swap-in request sleeps.
        calls: Names of the methods called, in order.
    """

    def __init__(self, guard_pages=1, kva_fail=()):
        self.guard_pages, self.kva_fail = guard_pages, set(kva_fail)
        self.objects, self.mapped, self.in_swap = {}, {}, {}
        self.kva_bytes, self.next_va, self.kva_calls, self.last_obj, self.last_op = 0, 0xFFFF000000001000, 0, 0, 0
        self.building, self.swapping = {}, {}
        self.free_pages, self.swapin_sleeps = 1 << 40, 0
        self.calls = []

    def stack_create(self, sizes, op):
        self.calls.append("stack_create")
        if op:
            request = self.building.pop(op)
            assert request.sizes == sizes
        else:
            request = Building(sizes)
        while len(request.stacks) < len(sizes) or not self._complete(request):
            if len(request.stacks) == 0 or self._complete(request):
                request.stacks.append(self._begin(sizes[len(request.stacks)]))
            if not self._grab(request.stacks[-1]):
                self.last_op += 1
                self.building[self.last_op] = request
                sleep = Suspension(self.last_op, "v_free_count", PVM, "vmwait")
                return StacksBuilt(Status.SUSPENDED, sleep, list(request.stacks))
        return StacksBuilt(stacks=request.stacks)

    def _complete(self, request):
        return not request.stacks or request.stacks[-1].complete or request.stacks[-1].stack.ks == 0

    def _begin(self, pages):
        self.kva_calls += 1
        if self.kva_calls in self.kva_fail:
            return StackBuilt(StackPages(0, 0, pages))
        self.last_obj += 1
        self.objects[self.last_obj] = {}
        size = (pages + self.guard_pages) * PAGE
        ks, self.next_va = self.next_va + self.guard_pages * PAGE, self.next_va + size
        self.kva_bytes += size
        return StackBuilt(StackPages(self.last_obj, ks, pages), size, complete=False)

    def _grab(self, built):
        stack = built.stack
        if not stack.ks:
            return True
        pages = self.objects[stack.obj]
        while len(pages) < stack.pages:
            if not self.free_pages:
                return False
            self.free_pages -= 1
            pages[len(pages)] = Page()
        self._enter(stack)
        built.complete = True
        return True

    def _enter(self, stack):
        for i in range(stack.pages):
            self.mapped[stack.ks + i * PAGE] = self.objects[stack.obj][i]

    def stack_destroy(self, stacks):
        self.calls.append("stack_destroy")
        freed = 0
        for stack in stacks:
            self._remove(stack)
            for i in range(stack.pages):
                if i not in self.objects[stack.obj]:
                    raise KernelPanic("vm_thread_dispose: kstack already missing?", "vm_thread_stack_dispose", 423)
                self._unwire(self.objects[stack.obj][i])
            self.free_pages += stack.pages
            del self.objects[stack.obj]
            freed += (stack.pages + self.guard_pages) * PAGE
        self.kva_bytes -= freed
        return KvaFreed(freed)

    def stack_swapout(self, stacks):
        self.calls.append("stack_swapout")
        for entry in stacks:
            stack = entry.stack
            top = self.mapped[stack.ks + (stack.pages - 1) * PAGE]
            top.data[PAGE - len(entry.pcb) :] = entry.pcb
            self._remove(stack)
            for i in range(stack.pages):
                if i not in self.objects[stack.obj]:
                    raise KernelPanic("vm_thread_swapout: kstack already missing?", "vm_thread_swapout", 556)
                page = self.objects[stack.obj][i]
                page.dirty = True
                self._unwire(page)
        return Empty()

    def stack_swapin(self, stacks, op):
        self.calls.append("stack_swapin")
        if op:
            assert self.swapping.pop(op) == [entry.stack for entry in stacks]
        if self.swapin_sleeps:
            self.swapin_sleeps -= 1
            self.last_op += 1
            self.swapping[self.last_op] = [entry.stack for entry in stacks]
            return StacksIn(Status.SUSPENDED, Suspension(self.last_op, "page:1", PVM, "swread", 20000))
        answer = StacksIn()
        for index, entry in enumerate(stacks):
            self._bring_in(index, entry, answer)
        return answer

    def _bring_in(self, index, entry, answer):
        stack, pages = entry.stack, self.objects[entry.stack.obj]
        missing = [i for i in range(stack.pages) if i not in pages]
        if missing and (stack.obj, missing[0]) not in self.in_swap:
            text = f"vm_thread_swapin: cannot get kstack for proc: {entry.pid}"
            raise KernelPanic(text, "vm_thread_swapin", 595)
        if missing:
            answer.page_requests.append(PageRequest(index, missing[0], len(missing), 0))
        for i in missing:
            pages[i] = Page(self.in_swap[stack.obj, i], wired=0)
        for page in pages.values():
            page.wired += 1
        self._enter(stack)
        answer.pcbs.append(bytes(pages[stack.pages - 1].data[PAGE - 64 :]))

    def evict(self, obj):
        """The page daemon writes and frees all unwired pages of an object."""
        for i in [i for i, page in self.objects[obj].items() if not page.wired]:
            self.in_swap[obj, i] = self.objects[obj].pop(i).data

    def kmem_write(self, writes):
        self.calls.append("kmem_write")
        for write in writes:
            base = write.addr % PAGE
            self.mapped[write.addr - base].data[base : base + len(write.data)] = write.data
        return Empty()

    def kmem_read(self, ranges):
        self.calls.append("kmem_read")
        data = []
        for entry in ranges:
            base = entry.addr % PAGE
            data.append(bytes(self.mapped[entry.addr - base].data[base : base + entry.len]))
        return KmemData(data)

    def lose_page(self, obj, pindex):
        self.objects[obj].pop(pindex, None)
        return Empty()

    def object_pages(self, stacks):
        rows = []
        for stack in stacks:
            pages = self.objects.get(stack.obj, {})
            row = [pages.get(i) for i in range(stack.pages)]
            mapped = [self.mapped.get(stack.ks + i * PAGE) for i in range(stack.pages)]
            rows.append(
                ObjectPages(
                    stack.obj,
                    stack.obj in self.objects,
                    valid="".join("V" if page else "-" for page in row),
                    wired="".join(str(page.wired) if page else "-" for page in row),
                    mapped="".join(_mapping(a, b) for a, b in zip(mapped, row, strict=True)),
                )
            )
        return ObjectsPages(rows, len(self.objects), self.kva_bytes)

    def _remove(self, stack):
        for i in range(stack.pages):
            self.mapped.pop(stack.ks + i * PAGE, None)

    def _unwire(self, page):
        if not page.wired:
            raise KernelPanic("vm_page_unwire: page's wire count is zero", "vm_page_unwire")
        page.wired -= 1


def _mapping(mapped, page):
    if mapped is None:
        return "."
    return "M" if mapped is page else "S"
