"""What `check` finds wrong with queues, processes and address spaces; and a scheduler's checkpoint."""

import pytest
from driver import EXIT, SECOND, booted, sleep
from fakes import machine

from services.ports.scheduler import DispatchKind
from services.scheduler.proc_flags import P_SWAPPINGIN, TDF_INMEM, TDF_SWAPINREQ, TDI_SWAPPED, Prs, Tds


@pytest.fixture
def driver():
    """Program 100 sleeps, 101 runs, 102 waits for the processor."""
    driver = booted((1, 0), (2, 0), (3, 0))
    driver.report(sleep(100 * SECOND))
    assert driver.dispatch.pid == 101
    assert driver.thread(102).td_state is Tds.RUNQ
    return driver


def queue_twice(driver):
    runq = driver.m.core.k.s.runq
    runq.append(next(entry for entry in runq if entry[2] == driver.thread(102).td_tid))


def zombie_lives(driver):
    s = driver.m.core.k.s
    s.zombproc[102] = s.allproc.pop(102)


def too_few_references(driver):
    driver.m.core.k.s.vmspaces[driver.proc(100).p_vmspace].vm_refcnt = 0


def forget_channel(driver):
    driver.thread(100).td_wchan = ""


def wrong_state(driver):
    driver.thread(102).td_state = Tds.RUNNING


def inhibited_but_running(driver):
    driver.thread(101).td_inhibitors = TDI_SWAPPED


def two_swap_states(driver):
    driver.proc(100).p_flag |= P_SWAPPINGIN


def thread_is_out(driver):
    driver.thread(100).td_flags &= ~TDF_INMEM


def swapin_wanted(driver):
    driver.thread(100).td_flags |= TDF_SWAPINREQ


def stranger(driver):
    driver.thread(100).td_pid = 4711


def no_stack(driver):
    driver.thread(100).td_kstack = 0


def order_of_allproc(driver):
    driver.proc(101).p_seq = driver.proc(100).p_seq


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (queue_twice, "a thread is on the run queue twice"),
        (zombie_lives, "pid 102 is on zombproc in state NORMAL"),
        (too_few_references, "has 0 references and 1 processes"),
        (forget_channel, "waits for '' but is on the sleep queue"),
        (wrong_state, "in state RUNNING is on the run queue"),
        (inhibited_but_running, "in state RUNNING"),
        (two_swap_states, "pid 100 is in two swap states"),
        (thread_is_out, "pid 100 is in memory, its tid 100100 is not"),
        (swapin_wanted, "pid 100 is in memory, its tid 100100 is not"),
        (stranger, "tid 100100 of pid 100 says pid 4711"),
        (no_stack, "tid 100100 has no kernel stack"),
        (order_of_allproc, "the places of processes in allproc are not in its order"),
    ],
)
def test_check_says_what_is_wrong(driver, break_it, said):
    assert driver.m.core.check().violations == []
    break_it(driver)
    assert any(said in violation for violation in driver.m.core.check().violations), driver.m.core.check().violations


def test_the_state_of_a_zombie_says_so(driver):
    driver.m.core.k.s.allproc[102].p_state = Prs.ZOMBIE
    zombie_lives(driver)
    assert any("ZOMBIE with address space" in violation for violation in driver.m.core.check().violations)


def test_a_scheduler_goes_on_from_its_checkpoint(driver):
    saved = driver.m.core.checkpoint_save(0)
    other = machine()
    other.core.checkpoint_load(0, saved.size, saved.data)
    other.core.checkpoint_commit()
    assert other.core.digest() == driver.m.core.digest()
    assert [row.pid for row in other.core.processes().processes] == [
        row.pid for row in driver.m.core.processes().processes
    ]
    assert driver.run_out(EXIT).kind is not DispatchKind.RUN
    assert other.core.digest() != driver.m.core.digest(), "it is a machine of its own"
