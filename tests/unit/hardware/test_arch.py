import pytest

from hardware_sim.arch import arch

TABLE = [  # name, page size, KSTACK_PAGES, guard pages, stack bytes, KVA bytes with guard
    ("amd64", 4096, 4, 1, 16384, 20480),
    ("i386", 4096, 2, 1, 8192, 12288),
    ("arm", 4096, 2, 1, 8192, 12288),
    ("arm64", 4096, 4, 1, 16384, 20480),
    ("mips", 4096, 2, 2, 8192, 16384),
    ("powerpc", 4096, 4, 1, 16384, 20480),
    ("powerpc64", 4096, 8, 1, 32768, 36864),
    ("sparc64", 8192, 4, 1, 32768, 40960),
]


@pytest.mark.parametrize(("name", "page", "pages", "guard", "stack", "kva"), TABLE)
def test_kernel_stack_sizes(name, page, pages, guard, stack, kva):
    entry = arch(name)
    assert (entry.page_size, entry.kstack_pages, entry.kstack_guard_pages) == (page, pages, guard)
    assert entry.page_size * entry.kstack_pages == stack
    assert entry.page_size * (entry.kstack_pages + entry.kstack_guard_pages) == kva
    assert entry.kstack_align_pages == (2 if name == "mips" else 1)


@pytest.mark.parametrize("name", [row[0] for row in TABLE])
def test_address_ranges_are_page_aligned(name):
    entry = arch(name)
    for bound in (entry.kernel_min, entry.kernel_max, entry.user_min, entry.user_max):
        assert bound % entry.page_size == 0
    assert entry.kernel_min < entry.kernel_max
    assert entry.user_min < entry.user_max


def test_valid_bits_stand_for_512_bytes():
    assert arch("amd64").page_bits_all == 0xFF
    assert arch("sparc64").page_bits_all == 0xFFFF


def test_only_powerpc_syncs_its_instruction_cache():
    assert [row[0] for row in TABLE if arch(row[0]).icache_sync] == ["powerpc", "powerpc64"]


def test_unknown_architecture_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'vax'; known: amd64, .*sparc64"):
        arch("vax")
