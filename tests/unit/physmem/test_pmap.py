import pytest
from page_side import SPACE, anonymous, page_side, resident, sound

from hardware_sim.mmu import PG_A, PG_M, PG_RW, PG_W
from services.physmem.page_array import PGA_REFERENCED, PGA_WRITEABLE, VPO_UNMANAGED
from services.physmem.pmap import (
    KERNEL_PMAP,
    pmap_clear_modify,
    pmap_enter,
    pmap_extract,
    pmap_is_modified,
    pmap_page_is_mapped,
    pmap_pinit,
    pmap_protect,
    pmap_qenter,
    pmap_qremove,
    pmap_release,
    pmap_remove,
    pmap_remove_all,
    pmap_remove_write,
    pmap_resident_count,
    pmap_sync_icache,
    pmap_ts_referenced,
    pmap_unwire,
    pmap_wired_count,
    vpn_of,
)
from services.physmem.vm_page import VM_ALLOC_NOOBJ, VM_ALLOC_WIRED, vm_page_alloc
from services.runtime.errors import KernelPanic

R, W, X = 1, 2, 4
VPN = 0x7F0000000


@pytest.fixture
def vm():
    side = page_side()
    pmap_pinit(side, 2)
    return side


@pytest.fixture
def m(vm):
    return resident(vm, anonymous(vm, 1), 0, dirty=False)


def enter(vm, m, access=0, space=SPACE, vpn=VPN, prot=R | W, wired=False):
    pmap_enter(vm, space, vpn, m, prot, wired, access)


def test_a_write_fault_enters_a_modified_page(vm, m):
    enter(vm, m, access=W)
    assert vm.mmu.pte(SPACE, VPN) & (PG_A | PG_M | PG_RW) == PG_A | PG_M | PG_RW
    assert vm.pages.aflags[m] & PGA_WRITEABLE
    assert pmap_is_modified(vm, m)
    assert pmap_extract(vm, SPACE, VPN) == m
    assert pmap_extract(vm, SPACE, VPN + 1) is None


def test_a_read_fault_on_a_writable_page_leaves_it_clean(vm, m):
    enter(vm, m, access=R)
    assert vm.mmu.pte(SPACE, VPN) & (PG_A | PG_M) == PG_A
    assert not pmap_is_modified(vm, m)


def test_a_write_that_is_not_permitted_does_not_modify(vm, m):
    enter(vm, m, access=W, prot=R)
    assert not vm.mmu.pte(SPACE, VPN) & (PG_M | PG_RW)


@pytest.mark.parametrize("how", ["remove", "replace", "remove_all", "protect_none"])
def test_bits_reach_the_page_when_the_mapping_goes(vm, m, how):
    enter(vm, m, access=W)
    if how == "remove":
        assert pmap_remove(vm, SPACE, VPN, VPN + 1) == 1
    elif how == "replace":
        enter(vm, resident(vm, anonymous(vm, 1), 0))
    elif how == "remove_all":
        pmap_remove_all(vm, m)
    else:
        pmap_protect(vm, SPACE, VPN, VPN + 1, 0)
    assert vm.pages.dirty[m] == 0xFF
    assert vm.pages.aflags[m] & PGA_REFERENCED
    assert not pmap_page_is_mapped(vm, m)
    assert sound(vm) is True


def test_unused_mappings_leave_no_bits(vm, m):
    enter(vm, m)
    pmap_remove(vm, SPACE, 0, 1 << 36)
    assert (vm.pages.dirty[m], vm.pages.aflags[m] & PGA_REFERENCED) == (0, 0)


def test_protect_takes_write_access_and_remembers_what_was_written(vm, m):
    enter(vm, m, access=W)
    pmap_protect(vm, SPACE, VPN, VPN + 1, R)
    assert vm.pages.dirty[m] == 0xFF
    assert vm.mmu.pte(SPACE, VPN) & (PG_RW | PG_M | PG_A) == PG_A
    assert not vm.pages.aflags[m] & PGA_REFERENCED


def test_protect_with_all_rights_changes_nothing(vm, m):
    enter(vm, m, access=W)
    before = vm.mmu.pte(SPACE, VPN)
    pmap_protect(vm, SPACE, VPN, VPN + 1, R | W | X)
    assert vm.mmu.pte(SPACE, VPN) == before


def test_remove_write_reaches_all_mappings(vm, m):
    enter(vm, m)
    enter(vm, m, access=W, space=2, vpn=5)
    pmap_remove_write(vm, m)
    assert vm.pages.dirty[m] == 0xFF
    assert not vm.pages.aflags[m] & PGA_WRITEABLE
    assert not (vm.mmu.pte(SPACE, VPN) | vm.mmu.pte(2, 5)) & (PG_RW | PG_M)


def test_references_are_counted_by_mapping_and_forgotten(vm, m):
    enter(vm, m, access=R)
    enter(vm, m, access=R, space=2)
    enter(vm, m, vpn=9)
    assert pmap_ts_referenced(vm, m) == 2
    assert pmap_ts_referenced(vm, m) == 0


def test_clear_modify(vm, m):
    enter(vm, m, access=W)
    pmap_clear_modify(vm, m)
    assert not pmap_is_modified(vm, m)
    assert vm.mmu.pte(SPACE, VPN) & PG_RW


def test_resident_and_wired_counts(vm, m):
    enter(vm, m, wired=True)
    enter(vm, m, vpn=3)
    assert (pmap_resident_count(vm, SPACE), pmap_wired_count(vm, SPACE)) == (2, 1)
    pmap_unwire(vm, SPACE, 0, VPN + 1)
    assert (pmap_resident_count(vm, SPACE), pmap_wired_count(vm, SPACE)) == (2, 0)
    assert not vm.mmu.pte(SPACE, VPN) & PG_W
    pmap_remove(vm, SPACE, 0, 1 << 36)
    pmap_release(vm, SPACE)
    assert pmap_resident_count(vm, SPACE) == 0


def test_an_unmanaged_page_has_no_reverse_mapping(vm):
    m = vm_page_alloc(vm, None, 0, VM_ALLOC_NOOBJ | VM_ALLOC_WIRED)
    assert vm.pages.oflags[m] & VPO_UNMANAGED
    enter(vm, m)
    assert not pmap_page_is_mapped(vm, m)
    assert pmap_resident_count(vm, SPACE) == 0


def test_qenter_maps_without_reverse_mapping(vm, m):
    va = vm.arch.kernel_min + 0x5000
    other = resident(vm, anonymous(vm, 1), 0)
    pmap_qenter(vm, va, [m, other])
    assert pmap_extract(vm, KERNEL_PMAP, vpn_of(vm, va + 4096)) == other
    assert not pmap_page_is_mapped(vm, m)
    pmap_qenter(vm, va, [other])
    assert pmap_extract(vm, KERNEL_PMAP, vpn_of(vm, va)) == other
    pmap_qremove(vm, va - 4096, 3)
    assert pmap_extract(vm, KERNEL_PMAP, vpn_of(vm, va)) is None
    assert sound(vm) is True


def test_qremove_is_for_kernel_addresses(vm):
    with pytest.raises(KernelPanic, match="not a kernel address"):
        pmap_qremove(vm, 0x1000, 1)


def test_only_powerpc_touches_pages_to_sync_the_instruction_cache():
    for name, touched in (("amd64", 0), ("powerpc64", 2)):
        vm = page_side(name=name)
        object_ = anonymous(vm, 4)
        for i in range(4):
            resident(vm, object_, i, vpn=VPN + i)
        assert pmap_sync_icache(vm, SPACE, (VPN << 12) + 4095, 2) == touched
        assert pmap_sync_icache(vm, SPACE, VPN << 12, 0) == 0
        assert pmap_sync_icache(vm, SPACE, (VPN + 1) << 12, (1 << 64) - 1) == (3 if touched else 0)
