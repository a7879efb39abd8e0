"""A page side alone, over the fake pager, and what its tests do with it."""

from fake_pager import FakePager

from hardware_sim.arch import arch
from services.physmem.page_busy import vm_page_xunbusy
from services.physmem.page_checks import check_pages
from services.physmem.pmap import pmap_enter, pmap_pinit
from services.physmem.state import ObjectType, Vm
from services.physmem.vm_object import vm_object_allocate
from services.physmem.vm_page import VM_ALLOC_NORMAL, vm_page_activate, vm_page_alloc
from services.physmem.vm_pageout import finish_write
from services.runtime.context import Context

SPACE = 1
"""An address space that every page side has."""


def page_side(pages=1024, swap_pages=1 << 20, name="amd64"):
    """Memory after boot, with one address space."""
    ctx = Context("physmem")
    vm = Vm.boot(ctx, FakePager(ctx, swap_pages), pages, arch(name), seed=7)
    pmap_pinit(vm, SPACE)
    return vm


def anonymous(vm, size):
    """A new anonymous object."""
    return vm_object_allocate(vm, ObjectType.DEFAULT, size)


def resident(vm, object_, pindex, fill=None, dirty=True, vpn=None):
    """Make a valid page resident and active; with `vpn` mapped writable, and its first word `fill`."""
    m = vm_page_alloc(vm, object_, pindex, VM_ALLOC_NORMAL)
    assert isinstance(m, int)
    vm.ram.words[m] = 0 if fill is None else fill
    vm.pages.valid[m] = vm.bits_all
    vm.pages.dirty[m] = vm.bits_all if dirty else 0
    if vpn is not None:
        pmap_enter(vm, SPACE, vpn, m, 3, wired=False)
    vm_page_activate(vm, m)
    vm_page_xunbusy(vm, m)
    return m


def give_block(vm, m):
    """The pager has a swap block of a page."""
    vm.objects[vm.pages.object[m]].own("swapped")[vm.pages.pindex[m]] = None


def has_block(vm, m):
    """Whether the pager has a swap block of a page."""
    return vm.pages.pindex[m] in vm.objects[vm.pages.object[m]].swapped


def take(vm, object_, count, first=0):
    """Allocate `count` unbusied pages that hold nothing, as somebody who takes memory does."""
    for pindex in range(first, first + count):
        m = vm_page_alloc(vm, object_, pindex, VM_ALLOC_NORMAL)
        assert isinstance(m, int), f"memory is short at page {pindex}"
        vm_page_xunbusy(vm, m)


def end_writes(vm):
    """All device writes under way are done."""
    if vm.writes:
        finish_write(vm, sorted(vm.writes))


def sound(vm):
    """All invariants hold."""
    found, checked = check_pages(vm)
    assert checked >= vm.pages.count
    return found == [] or found
