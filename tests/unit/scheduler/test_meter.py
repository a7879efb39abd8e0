"""The meter of forks: how many of each kind, and the pages of data and stack that went with them."""

from driver import IMAGE, booted

from services.ports.common import Region
from services.ports.scheduler import Trap, TrapOp

STACK_PAGES = 32
DATA = Region(0x500, 6, 3, "prog", 4, 10)


def meter(driver):
    settings = {s.name.rpartition("v_")[2]: s.value for s in driver.m.core.sysctl_get().settings if "v_" in s.name}
    return {kind: (settings[f"{kind}s"], settings[f"{kind}pages"]) for kind in ("fork", "vfork", "rfork", "kthread")}


def test_the_kernels_own_processes_are_threads_of_the_kernel_and_copy_nothing():
    assert meter(booted()) == {"fork": (1, 0), "vfork": (0, 0), "rfork": (0, 0), "kthread": (3, 0)}


def test_a_fork_counts_data_and_stack_of_the_image():
    driver = booted()
    driver.report(Trap(TrapOp.EXEC, name="prog", regions=[*IMAGE, DATA]))
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    assert meter(driver)["fork"] == (2, DATA.npages + STACK_PAGES)
    driver.report(Trap(TrapOp.FORK, a=1, b=1, cookie=8))
    assert meter(driver)["vfork"] == (1, DATA.npages + STACK_PAGES)


def test_brk_moves_the_end_of_the_data():
    driver = booted()
    driver.report(Trap(TrapOp.BRK, a=0x720, regions=[Region(0x700, 0x20, 3)]))
    driver.report(Trap(TrapOp.BRK, a=0x708))
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    assert meter(driver)["fork"] == (2, 8 + STACK_PAGES)
