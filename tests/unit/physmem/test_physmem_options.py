"""Build options of physical memory: NO_SWAPPING, INVARIANTS, the sizes of kernel stacks."""

import pytest
from map_side import BASE, PAGE, MapSide

from services.physmem.page_busy import vm_page_xunbusy
from services.physmem.vm_page import vm_page_dirty
from services.ports.common import Setting
from services.ports.physmem import KERNEL_SPACE, AccessCheck, MapOp, MapOpKind
from services.runtime.errors import KernelPanic, Reason, Refused


def setting(side, name):
    return {entry.name: entry.value for entry in side.core.sysctl_get().settings}[name]


@pytest.mark.parametrize("name", ["vm.swap_enabled", "vm.swap_idle_enabled"])
def test_without_swapping_it_cannot_be_enabled(name):
    side = MapSide(no_swapping=True)
    assert setting(side, name) == 0
    with pytest.raises(Refused) as refused:
        side.core.sysctl_set(Setting(name, 1))
    assert refused.value.reason is Reason.UNKNOWN_SYSCTL
    assert setting(side, name) == 0
    side = MapSide()
    side.core.sysctl_set(Setting(name, 1))
    assert setting(side, name) == 1


def test_stacks_have_the_guard_and_at_most_the_pages_that_the_kernel_is_built_with():
    side = MapSide(kstack_guard_pages=0, kstack_max_pages=40)
    (built,) = side.core.stack_create([40], 0).stacks
    assert (built.complete, built.kva_bytes) == (True, 40 * PAGE)
    with pytest.raises(Refused, match="1 to 40 pages"):
        side.core.stack_create([41], 0)
    with pytest.raises(Refused, match="1 to 32 pages"):
        MapSide().core.stack_create([33], 0)


@pytest.mark.parametrize("function", ["kernacc", "useracc"])
def test_an_illegal_rw_is_a_failed_kassert(function):
    side, check = MapSide(), AccessCheck(BASE, 1, 8)
    space = side.space(1)
    with pytest.raises(KernelPanic, match=f"illegal ``rw'' argument to {function} \\(8\\)"):
        side.core.useracc(space, [check]) if function == "useracc" else side.core.kernacc([check])


@pytest.mark.parametrize(
    ("rw", "granted"),
    [
        (8, False),  # a right that no entry has
        (0x100, True),  # vm_prot_t is a u_char: nothing is asked for
        (0x101, True),
        (0x104, False),
        (-1, False),
        (-256, True),
    ],
)
def test_without_invariants_the_low_byte_of_rw_is_asked_for(rw, granted):
    side = MapSide(without_invariants=True)
    space, start = side.space(1), side.vm.arch.kernel_min
    side.core.map_ops(KERNEL_SPACE, [MapOp(MapOpKind.INSERT, start, PAGE, prot=3)], 0)
    assert side.core.useracc(space, [AccessCheck(BASE, 1, rw)]).ok == [granted]
    assert side.core.kernacc([AccessCheck(start, 1, rw)]).ok == [granted]


def test_kasserts_of_pages_are_gone_without_invariants():
    for off in (False, True):
        side = MapSide(without_invariants=off)
        for call in (vm_page_dirty, vm_page_xunbusy):
            if off:
                call(side.vm, 0)
            else:
                with pytest.raises(KernelPanic, match=call.__name__):
                    call(side.vm, 0)
        assert bool(side.vm.pages.dirty[0]) is off


def test_a_stack_is_destroyed_once():
    side = MapSide()
    (built,) = side.core.stack_create([4], 0).stacks
    before = side.core.digest()
    with pytest.raises(Refused, match="each stack once"):
        side.core.stack_destroy([built.stack, built.stack])
    assert side.core.digest() == before
