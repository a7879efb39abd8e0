import resource

import numpy as np
import pytest

from hardware_sim.ram import Ram


def test_16_gib_cost_nothing_until_touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ram = Ram(4 << 20)
    ram.write((4 << 20) - 1, b"last")
    assert ram.read((4 << 20) - 1, 0, 4) == b"last"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


def test_bytes_and_words_are_the_same_memory():
    ram = Ram(4)
    ram.write(2, (7).to_bytes(8, "little"), 8)
    assert ram.words[2, 1] == 7
    ram.words[2, 1] = 9
    assert ram.read(2, 8, 8) == (9).to_bytes(8, "little")
    assert len(ram.read(2)) == 4096
    assert ram.read(2, 4090) == bytes(6)


def test_zero_and_copy():
    ram = Ram(3)
    ram.words[0] = np.arange(512)
    ram.copy(0, 2)
    assert (ram.words[2] == np.arange(512)).all()
    ram.zero(0)
    assert not ram.words[0].any()


def test_gather_keeps_the_order_given():
    ram = Ram(8)
    for frame in range(8):
        ram.words[frame] = frame
    data = np.frombuffer(ram.gather([5, 1, 7]), np.uint64)
    assert data[::512].tolist() == [5, 1, 7]
    assert len(data) == 3 * 512


def test_stamps_are_words_0_to_4_and_the_last():
    ram = Ram(2)
    ram.words[1] = np.arange(512) * 3
    assert ram.stamps([1]).tolist() == [[0, 3, 6, 9, 12, 1533]]


@pytest.mark.parametrize(("offset", "length"), [(4095, 2), (-1, 1), (0, 4097)])
def test_a_write_does_not_run_into_another_frame(offset, length):
    ram = Ram(2)
    with pytest.raises(ValueError, match="do not fit"):
        ram.write(0, bytes([1] * length), offset)
    assert not ram.words.any()


def test_a_machine_has_memory():
    with pytest.raises(ValueError, match="at least one"):
        Ram(0)
