"""What the report says about the end of a load, and about who may be swapped out."""

import numpy as np

from clients.recovery import recovery, swappability
from services.ports.scheduler import ProcessRow, SchedulerStats


def packed(*values):
    return np.array(values, np.int64).tobytes()


ROWS = [
    ProcessRow(pid=100, name="cron", start_us=0, end_us=9_000_000, swappable_us=70, sleep_us=70, swaps=2),
    ProcessRow(pid=101, name="cron", start_us=0, end_us=9_000_000, swappable_us=30, sleep_us=40),
    ProcessRow(pid=102, name="big", start_us=1_000_000, end_us=2_000_000, sleep_us=5),
    ProcessRow(pid=103, name="big", start_us=1_100_000, end_us=3_000_000),
]
STATS = SchedulerStats(
    wakeup_resident=packed(900, 40, 5_000, 2_500, 10),
    wakeup_resident_at=packed(500_000, 600_000, 2_900_000, 4_000_000, 5_000_000),
    wakeup_swapped=packed(7_000, 1_700),
    wakeup_swapped_at=packed(2_500_000, 3_800_000),
)


def test_a_recovery_is_counted_from_the_end_of_the_load():
    assert recovery(STATS, ROWS, {"big"}) == {
        "begun_us": 1_000_000,
        "ended_us": 3_000_000,
        "last_back_us": 800_000,
        "back": 1,
        "normal_latency_us": 1_800,
        "normal_us": 1_000_000,
        "slow": 1,
    }


def test_without_samples_before_the_load_a_millisecond_is_normal():
    early = [ProcessRow(name="big", start_us=0, end_us=3_000_000)]
    found = recovery(STATS, early, {"big"})
    assert (found["normal_latency_us"], found["slow"]) == (1_000, 2)


def test_no_recovery_before_the_end_of_the_load():
    assert recovery(STATS, ROWS, set()) is None
    assert recovery(STATS, [*ROWS, ProcessRow(name="big", end_us=-1)], {"big"}) is None


def test_who_could_be_swapped_out_and_who_was():
    big, cron = swappability(ROWS)
    assert big == {
        "name": "big", "count": 2, "swappable": 0, "swapped": 0, "swappable_sleep_us": 0, "sleep_us": 5,
    }  # fmt: skip
    assert (cron["count"], cron["swappable"], cron["swapped"], cron["swappable_sleep_us"]) == (2, 2, 1, 100)
