"""Devices in virtual time: how long operations of each kind take, what overlaps, and what fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_sim.disk import KINDS, DeviceQueue, Faults
from hardware_sim.disk.flash import NVME, SSD
from hardware_sim.disk.hdd import HDD
from hardware_sim.disk.network import NETWORK

operations = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9999), st.integers(1, 32), st.booleans()))


@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 2**64 - 1), operations=operations)
def test_no_more_operations_overlap_than_there_are_channels(kind, seed, operations):
    queue, now, model, spans = DeviceQueue(kind, seed), 0, KINDS[kind], []
    for pause, block, blocks, write in operations:
        now += pause
        begins = max(now, min(queue.busy_until_us))
        due = queue.start(now, block, blocks, write).due_us - model.delay_us
        assert due > begins
        spans.append((begins, due))
    for begins, _ in spans:
        assert sum(other <= begins < due for other, due in spans) <= model.channels


@given(seed=st.integers(0, 2**64 - 1), operations=operations)
def test_an_ssd_takes_its_time_within_the_jitter_one_after_another(seed, operations):
    queue, now, before = DeviceQueue("ssd", seed), 0, 0
    for pause, block, blocks, write in operations:
        now += pause
        due = queue.start(now, block, blocks, write).due_us
        nominal = (SSD.write_us if write else SSD.read_us) + 10 * blocks
        assert nominal * 9 // 10 <= due - max(now, before) <= nominal * 11 // 10
        before = due


def test_the_seed_decides_the_latencies():
    def ends(seed):
        queue = DeviceQueue("ssd", seed)
        return [queue.start(0, 0, 4, write=False).due_us for _ in range(20)]

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)


def test_seeks_of_a_disk_are_those_of_its_data_sheet():
    third = HDD.tracks // 3
    assert [HDD.seek_us(tracks, write=False) for tracks in (0, 1, HDD.tracks)] == [0, 1_019, 20_000]
    assert [HDD.seek_us(tracks, write=True) for tracks in (0, 1, HDD.tracks)] == [0, 1_119, 21_000]
    assert HDD.seek_us(third, write=False) == pytest.approx(12_000, rel=0.01)
    assert HDD.seek_us(third, write=True) == pytest.approx(13_000, rel=0.05)


def test_a_disk_waits_for_its_platter():
    queue = DeviceQueue("hdd", 0)
    first = queue.start(0, 0, 16, write=False).due_us
    assert first == 16 * HDD.rotation_us // HDD.track_blocks
    following = queue.start(first, 16, 16, write=False).due_us
    assert following - first <= first + 1  # the head is there already
    again = queue.start(following, 0, 16, write=False).due_us
    assert HDD.rotation_us <= again <= HDD.rotation_us + first  # block 0 comes round once more
    assert DeviceQueue("hdd", 5).start(0, 0, 16, write=False).due_us == first


def test_an_nvme_disk_reads_beside_what_it_writes():
    queue = DeviceQueue("nvme", 3)
    writes = [queue.start(0, 16 * i, 16, write=True).due_us for i in range(NVME.channels - 1)]
    assert max(writes) < 2 * min(writes)
    assert queue.start(0, 0, 1, write=False).due_us < min(writes)
    assert queue.start(0, 0, 1, write=False).due_us < min(writes)  # the channel of the read before is free first


def test_a_link_is_free_while_an_answer_is_on_its_way():
    queue = DeviceQueue("network", 3)
    first, second = (queue.start(0, 0, 4, write=False).due_us for _ in range(2))
    assert first >= NETWORK.delay_us + 4 * NETWORK.block_us * 9 // 10
    assert second - first <= 4 * NETWORK.block_us * 11 // 10


@pytest.mark.parametrize(("write", "chance"), [(False, "read_per_million"), (True, "write_per_million")])
def test_operations_fail_as_often_as_they_are_said_to(write, chance):
    queue = DeviceQueue("ssd", 0, faults=Faults(rng=7, **{chance: 100_000}))
    assert 70 < sum(queue.start(0, 0, 1, write).failed for _ in range(1000)) < 130
    assert not any(queue.start(0, 0, 1, not write).failed for _ in range(1000))


def test_stalls_are_added_and_keep_others_waiting():
    queue = DeviceQueue("hdd", 0, faults=Faults(latency_per_million=1_000_000, latency_us=5_000))
    plain = DeviceQueue("hdd", 0).start(0, 0, 1, write=False).due_us
    assert queue.start(0, 0, 1, write=False).due_us == plain + 5_000
    assert queue.start(0, 0, 1, write=False).due_us > plain + 10_000


def test_without_chances_nothing_is_drawn():
    faults = Faults(rng=7)
    assert (faults.fails(write=True), faults.stall_us(), faults.full(), faults.rng) == (False, 0, False, 7)
    assert Faults(full_per_million=1_000_000).full()


@pytest.mark.parametrize(("change", "wrong"), [({"kind": "drum"}, "a kind of"), ({"busy_until_us": [0] * 3}, "1 chan")])
def test_a_queue_that_fits_no_device_is_told(change, wrong):
    queue = DeviceQueue("ssd", 0)
    assert queue.misfit() == ""
    for name, value in change.items():
        setattr(queue, name, value)
    assert wrong in queue.misfit()
