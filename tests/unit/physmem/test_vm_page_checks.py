import resource
import time

import pytest
from page_side import SPACE, anonymous, page_side, resident, sound

from services.physmem.page_array import PG_CACHED, PG_UNHOLDFREE, PQ_ACTIVE, VPO_UNMANAGED
from services.physmem.page_checks import check_pages, digest_pages
from services.physmem.pmap import pmap_enter, pmap_qenter
from services.physmem.state import PageWrite
from services.physmem.vm_page import vm_page_deactivate, vm_page_wire


def small():
    """A machine with a page of every kind: mapped and active, inactive, wired."""
    vm = page_side(256)
    object_ = anonymous(vm, 8)
    resident(vm, object_, 0, fill=1, vpn=100)
    vm_page_deactivate(vm, resident(vm, object_, 1, fill=2))
    vm_page_wire(vm, resident(vm, object_, 2, fill=3))
    pmap_qenter(vm, vm.arch.kernel_min, [object_.resident[2]])
    return vm


ACTIVE, INACTIVE, WIRED = 0, 1, 2
"""Frames of the active, inactive and wired page."""


def set_field(field, m, value):
    return lambda vm: getattr(vm.pages, field).__setitem__(m, value)


@pytest.mark.parametrize(
    ("corrupt", "sentence"),
    [
        (lambda vm: setattr(vm.cnt, "v_free_count", 252), "page 3 is lost"),
        (lambda vm: setattr(vm.cnt, "v_wire_count", 2), "v_wire_count is 2, 1 pages"),
        (lambda vm: setattr(vm.cnt, "v_cache_count", 1), "the cached queue's links lead over 0 pages, 1 are counted"),
        (set_field("wire_count", ACTIVE, 1), "more than one class"),
        (set_field("queue", WIRED, PQ_ACTIVE), "v_active_count is 1, 2 pages"),
        (set_field("qnext", ACTIVE, ACTIVE), "the active queue's links lead over -1 pages"),
        (set_field("oflags", INACTIVE, VPO_UNMANAGED), "a queued page is unmanaged"),
        (set_field("busy_lock", INACTIVE, 3), "neither unbusied, exclusive nor shared"),
        (set_field("busy_lock", INACTIVE, 9), "not those that are being written"),
        (set_field("busy_lock", 9, 2), "a page without an owner is busy"),
        (lambda vm: vm.writes.update({1: PageWrite(1, 0, [ACTIVE])}), "not those that are being written"),
        (set_field("flags", INACTIVE, PG_UNHOLDFREE), "waits for its last unhold"),
        (set_field("flags", ACTIVE, PG_CACHED), "a page without an owner is mapped"),
        (set_field("valid", INACTIVE, 0x0F), "dirty where it is not valid"),
        (set_field("pindex", INACTIVE, 7), "names another owner"),
        (set_field("object", 9, 1), "4 pages name an owner, 3 are resident"),
        (set_field("hold_count", 9, 1), "a free page has an owner, a hold or contents"),
        (lambda vm: vm.objects[1].resident.pop(1), "3 pages name an owner, 2 are resident"),
        (lambda vm: setattr(vm.objects[1], "ref_count", 0), "has 0 references and is marked otherwise"),
        (lambda vm: setattr(vm.objects[1], "shadow_count", 2), "counts 2 shadows and has 0"),
        (lambda vm: pmap_enter(vm, SPACE, 5, 9, 3, wired=False), "a page without an owner is mapped"),
        (set_field("oflags", ACTIVE, VPO_UNMANAGED), "an unmanaged page has a reverse mapping"),
        (lambda vm: pmap_qenter(vm, vm.arch.kernel_min, [9]), "the kernel maps a free page"),
    ],
)
def test_damage_is_found(corrupt, sentence):
    vm = small()
    assert sound(vm) is True
    corrupt(vm)
    found, _ = check_pages(vm)
    assert any(sentence in line for line in found), found


def test_equal_histories_have_equal_digests():
    one, two = small(), small()
    assert digest_pages(one) == digest_pages(two)
    one.ram.words[200, 5] = 1
    assert digest_pages(one) == digest_pages(two), "a free frame's contents are nobody's"


@pytest.mark.parametrize(
    "change",
    [
        lambda vm: vm.ram.words.__setitem__((INACTIVE, 17), 9),
        set_field("act_count", ACTIVE, 6),
        lambda vm: setattr(vm.cnt, "v_tfree", 1),
        lambda vm: setattr(vm.objects[1], "backing_offset", 1),
        lambda vm: vm.pages.free.__setitem__(0, 3),
        lambda vm: vm.mmu.enter(SPACE, 100, vm.mmu.pte(SPACE, 100) | 0x20),
    ],
)
def test_the_digest_sees_every_part_of_the_state(change):
    vm = small()
    before = digest_pages(vm)
    change(vm)
    assert digest_pages(vm) != before


def test_16_gib_boot_in_a_second_and_250_mb():
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    vm = page_side(4 << 20)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250 << 10
    arrays = sum(array.nbytes for array in vm.pages.np) + vm.pages.free_frames.nbytes + vm.mmu.state.pv_head.nbytes
    assert arrays < 250 << 20
    assert sound(vm) is True
