"""Branches of vm_glue.c:120-606: access, wiring, image pages, kernel stacks."""

from __future__ import annotations

from tests.fidelity.branch import KSTACK, PHYSMEM, SCHEDULER, Branch, Spot, at

GLUE, IMGACT, STACKS = PHYSMEM + "glue.py", PHYSMEM + "imgact.py", PHYSMEM + "kstack_pages.py"
CACHE, USE = KSTACK + "kstack_cache.py", KSTACK + "stack_use.py"
_SITUATION = "tests/unit/physmem/test_physmem_situation.py::"
_CORE_STACKS = "tests/unit/physmem/test_physmem_core_stacks.py::"


def _access(function: str, assertion: str, bounds: str, wrap: str, lookup: str, of: str) -> tuple[Branch, ...]:
    """kernacc and useracc differ in the map alone."""
    map_ = "kernel_map" if of == "kernel_map" else "map_"
    refused = Spot(GLUE, function, "return False", f"end > {map_}.max_offset")
    wrapped = Spot(GLUE, function, "return False", "end < addr")
    asked = Spot(GLUE, function, "return vm_map_check_protection(")
    return (
        at(
            assertion,
            "a bit of `rw` outside VM_PROT_ALL fails an assertion",
            Spot(GLUE, "_check_rw", "text ="),
            panic=f"illegal ``rw'' argument to {function}",
        ),
        at(bounds, f"an end beyond the end of {of} is FALSE; equal is not beyond", refused),
        at(wrap, "a sum that wraps is FALSE, as every negative length is", wrapped),
        at(lookup, "else the protection of the entries over the rounded range decides", asked),
    )


MEMORY: dict[str, tuple[Branch, ...]] = {
    "kernacc": _access("kernacc", "129-130", "132, 134", "133-134", "137-142", "kernel_map"),
    "useracc": _access("useracc", "163-164", "167, 169", "168-169", "171-175", "the process' map"),
    "vslock": (
        at(
            "188-189",
            "addr + len wraps: EINVAL before everything else",
            Spot(GLUE, "vslock", "return EINVAL", "last < addr"),
        ),
        at("188-189", "the rounded end wraps: EINVAL", Spot(GLUE, "vslock", "return EINVAL", "last >= addr")),
        at(
            "190-192",
            "more pages than vm.max_wired, counted with rounded bounds: ENOMEM",
            Spot(GLUE, "vslock", "return ENOMEM"),
        ),
        at(
            "206-207, 212",
            "wired without holes: 0",
            Spot(GLUE, "vslock", "return 0 if error ==", "error == 0"),
            Spot(GLUE, "vslock", "return 0 if result ==", "result == 0"),
        ),
        at(
            "206-207, 212",
            "whatever the wiring failed for: EFAULT",
            Spot(GLUE, "vslock", "return 0 if error ==", "error != 0"),
            Spot(GLUE, "vslock", "return 0 if result ==", "result != 0"),
        ),
    ),
    "vsunlock": (
        at(
            "220-222", "unwired over the rounded range; an error is ignored", Spot(GLUE, "vsunlock", "vm_map_unwire(vm")
        ),
    ),
    "vm_imgact_hold_page": (
        at(
            "239",
            "no page is free, or it is busy: the grab sleeps",
            Spot(IMGACT, "vm_imgact_hold_page", "return m"),
            tests=("tests/unit/physmem/test_physmem_core.py::test_an_image_page_that_is_being_read_is_waited_for",),
        ),
        at(
            "240",
            "a valid page is not read",
            Spot(IMGACT, "vm_imgact_hold_page", "vm_page_hold(", "not op.page_requests"),
        ),
        at(
            "240-242",
            "one that is not valid throughout is asked of the pager",
            Spot(IMGACT, "vm_imgact_hold_page", "rv = _get_page("),
        ),
        at(
            "243-245",
            "not found afterwards: NULL, also if the pager was content",
            Spot(IMGACT, "vm_imgact_hold_page", "return None", "found is None"),
        ),
        at(
            "246-251",
            "the pager failed: the page is freed, NULL",
            Spot(IMGACT, "vm_imgact_hold_page", "vm_page_free(vm, found)"),
        ),
        at("254-257", "unbusied, held, activated", Spot(IMGACT, "vm_imgact_hold_page", "vm_page_activate(")),
    ),
    "vm_imgact_map_page": (
        at("273-275", "no page: NULL, and the thread is not pinned", Spot(IMGACT, "vm_imgact_map_page", "return 0")),
        at(
            "276-277",
            "pinned, and mapped for this processor",
            Spot(IMGACT, "vm_imgact_map_page", "vm.last_mapping += 1"),
        ),
    ),
    "vm_imgact_unmap_page": (
        at(
            "288-293",
            "unmapped, unpinned, unheld; the last unhold frees a page that was freed meanwhile",
            Spot(IMGACT, "vm_imgact_unmap_page", "vm_page_unhold("),
        ),
    ),
    "vm_sync_icache": (
        at("300", "handed to the pmap of the map, wrapped sums and all", Spot(GLUE, "vm_sync_icache", "pages =")),
    ),
    "vm_thread_new": (
        at("333-334", "1 page and less: KSTACK_PAGES", Spot(CACHE, "_bounds_check", "return self._state.kstack_pages")),
        at(
            "335-336",
            "more than KSTACK_MAX_PAGES: so many",
            Spot(CACHE, "_bounds_check", "return min(", "pages > self._state.kstack_max_pages"),
        ),
        at(
            "338, 340-348",
            "the default size, and the cache has one: the newest, as it is, uncounted",
            Spot(CACHE, "_answer_hit", "stack = self._state.stacks"),
        ),
        at(
            "338, 350",
            "the default size, and the cache is empty: built",
            Spot(CACHE, "_answer_miss", "if not built.stack.ks", "request.pages == self._state.kstack_pages"),
        ),
        at(
            "338",
            "another size never looks at the cache",
            Spot(CACHE, "_answer_miss", "if not built.stack.ks", "request.pages != self._state.kstack_pages"),
        ),
        at(
            "361-370",
            "mips: aligned to two pages",
            Spot(STACKS, "stack_allocate", "ks = kva_alloc(", "align"),
            tests=(_CORE_STACKS + "test_architectures_differ_in_guard_and_alignment",),
        ),
        at("371-372", "elsewhere: where there is room", Spot(STACKS, "stack_allocate", "ks = kva_alloc(", "not align")),
        at(
            "374-377",
            "no kernel address space: the object goes, 0, nothing was counted",
            Spot(CACHE, "_answer_miss", "self._ctx.event(Kind.KSTACK_NO_KVA"),
        ),
        at("380", "counted before the pages are there", Spot(CACHE, "_count", "state.kstacks += 1")),
        at(
            "381-384",
            "guard pages are unmapped, and the stack begins above them",
            Spot(STACKS, "stack_allocate", "pmap_qremove("),
        ),
        at(
            "381",
            "no guard pages: nothing is unmapped",
            Spot(STACKS, "stack_allocate", "vm.stacks[ksobj.id] =", "guard == 0"),
        ),
        at(
            "401-402",
            "memory is short: it sleeps, counted, with the pages so far",
            Spot(STACKS, "_grab_stack", "return m"),
            tests=(_CORE_STACKS + "test_construction_sleeps_for_memory_with_what_it_has",),
        ),
        at(
            "403-404",
            "each page is wired, and valid with what it held",
            Spot(STACKS, "_grab_stack", "vm.pages.valid[m] ="),
        ),
        at("407-408", "mapped; 1", Spot(STACKS, "_grab_stack", "pmap_qenter(")),
    ),
    "vm_thread_stack_dispose": (
        at("417", "uncounted first", Spot(CACHE, "_uncount", "state.kstacks -= 1")),
        at("420-427", "each page is unwired and freed", Spot(STACKS, "stack_destroy", "vm_page_unwire(")),
        at(
            "422-423",
            "a page is missing: panic",
            Spot(STACKS, "stack_destroy", "raise KernelPanic("),
            panic="vm_thread_dispose: kstack already missing?",
        ),
        at(
            "430-432",
            "the object goes, and the address space with the guard",
            Spot(STACKS, "stack_destroy", "kva_free("),
        ),
    ),
    "vm_thread_dispose": (
        at(
            "451-458",
            "the default size, and not more stacks alive than vm.kstack_cache_size: head of the cache",
            Spot(CACHE, "vm_thread_dispose", "state.cache.append("),
        ),
        at(
            "451, 460",
            "another size: destroyed",
            Spot(CACHE, "vm_thread_dispose", "destroyed.append(", "stack.pages != state.kstack_pages"),
        ),
        at(
            "451, 460",
            "more stacks alive: destroyed",
            Spot(CACHE, "vm_thread_dispose", "destroyed.append(", "stack.pages == state.kstack_pages"),
        ),
    ),
    "vm_thread_stack_lowmem": (
        at(
            "468-471",
            "the whole list is detached, also an empty one",
            Spot(CACHE, "vm_thread_stack_lowmem", "if not stacks"),
        ),
        at(
            "473-479",
            "every entry is destroyed, the newest first",
            Spot(CACHE, "vm_thread_stack_lowmem", "kva_bytes ="),
        ),
    ),
    "kstack_cache_init": (
        at(
            "486-487",
            "the handler of vm_lowmem; here the page daemon calls it by itself",
            Spot(SCHEDULER + "kthreads.py", "vm_pageout_worker", "k.kstack.vm_thread_stack_lowmem()"),
            tests=("tests/unit/scheduler/test_swap_life.py::test_the_page_daemon_drains_stacks_when_lowmem_is_due",),
        ),
    ),
    "intr_prof_stack_use": (
        at(
            "514-515",
            "a frame of user mode is not looked at",
            Spot(USE, "intr_prof_stack_use", "return", "sample.from_user"),
        ),
        at(
            "524-525",
            "above the stack, or at its top: not this stack",
            Spot(USE, "intr_prof_stack_use", "return", "not sample.from_user and stack_top <= current"),
        ),
        at(
            "524-525",
            "below it: not this stack",
            Spot(USE, "intr_prof_stack_use", "return", "not sample.from_user and stack_top > current"),
        ),
        at(
            "530-531",
            "not deeper than the record: done",
            Spot(USE, "intr_prof_stack_use", "break", "prev_used >= used"),
        ),
        at("532-533", "the record is raised", Spot(USE, "intr_prof_stack_use", "ctx.event(Kind.KSTACK_MAX_USED")),
        at(
            "528, 532",
            "another processor was faster: again",
            Spot(USE, "intr_prof_stack_use", "prev_used =", "'prev_used' in locals()"),
        ),
    ),
    "vm_thread_swapout": (
        at(
            "549, 552", "the registers are saved, the stack is unmapped", Spot(STACKS, "stack_swapout", "pmap_qremove(")
        ),
        at(
            "554-562",
            "each page is dirtied, then unwired to the inactive queue",
            Spot(STACKS, "stack_swapout", "vm_page_dirty("),
        ),
        at(
            "556-557",
            "a page is missing: panic",
            Spot(STACKS, "stack_swapout", "raise KernelPanic("),
            panic="vm_thread_swapout: kstack already missing?",
        ),
    ),
    "vm_thread_swapin": (
        at("579-581", "all pages are grabbed first, wired and busy", Spot(STACKS, "_vm_thread_swapin", "ma.append(")),
        at(
            "580",
            "memory is short, or a page is busy: it sleeps",
            Spot(STACKS, "_vm_thread_swapin", "return m"),
            tests=(_CORE_STACKS + "test_swap_in_waits_for_pages_that_are_being_written",),
        ),
        at("583-585", "a page that is not valid begins a run", Spot(STACKS, "_vm_thread_swapin", "sleep = _get_run(")),
        at(
            "584, 588",
            "a page that is not valid is not busy: assertion",
            Spot(STACKS, "_assert_xbusied", "text ="),
            panic="vm_page_assert_xbusied: page",
            tests=(_SITUATION + "test_a_page_that_the_pager_leaves_neither_valid_nor_busy_is_asserted",),
        ),
        at("586-588", "the run goes on over pages that are not valid", Spot(STACKS, "_invalid_run", "j += 1")),
        at("589-590", "it ends at a valid page", Spot(STACKS, "_invalid_run", "return j - i", "j < len(ma)")),
        at("586", "it ends with the stack", Spot(STACKS, "_invalid_run", "return j - i", "j == len(ma)")),
        at(
            "592-595",
            "the pager failed: panic",
            Spot(STACKS, "_get_run", "raise KernelPanic("),
            panic="vm_thread_swapin: cannot get kstack for proc:",
        ),
        at(
            "596-599",
            "looked up anew, since the pager may have replaced pages; the first is unbusied",
            Spot(STACKS, "_get_run", "vm_object_pip_wakeup("),
        ),
        at(
            "600-601",
            "a valid page that is still busy is unbusied",
            Spot(STACKS, "_vm_thread_swapin", "vm_page_xunbusy("),
        ),
        at(
            "600",
            "one that came with a run is unbusied already",
            Spot(STACKS, "_vm_thread_swapin", "elif vm_page_xbusied(", "not vm_page_xbusied(vm, ma[i])"),
        ),
        at("604-605", "mapped; the registers come back", Spot(STACKS, "_vm_thread_swapin", "pmap_qenter(")),
    ),
}
"""Rows by C function."""
