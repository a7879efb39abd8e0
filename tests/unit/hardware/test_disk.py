"""The bytes of a disk: where they lie, and what happens to its file."""

import os

import pytest

from hardware_sim.disk import BLOCK_SIZE, BlockFile, DiskRefused, splitmix64


def page(n):
    return bytes([n % 256]) * BLOCK_SIZE


def test_splitmix64_gives_the_published_sequence():
    state, drawn = 1234567, []
    for _ in range(3):
        state, draw = splitmix64(state)
        drawn.append(draw)
    assert drawn == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_blocks_come_back_as_they_were_written():
    disk = BlockFile(40)
    disk.write(2, memoryview(b"".join(page(n) for n in range(33))))
    assert disk.read(34, 1) == page(32)
    assert disk.read(2, 33) == b"".join(page(n) for n in range(33))
    assert disk.read(35, 5) == bytes(5 * BLOCK_SIZE)
    disk.close()


@pytest.mark.parametrize(("block", "count"), [(40, 1), (39, 2)])
def test_nothing_lies_beyond_the_end(block, count):
    disk = BlockFile(40)
    with pytest.raises(AssertionError):
        disk.read(block, count)
    with pytest.raises(AssertionError):
        disk.write(block, memoryview(bytes(count * BLOCK_SIZE)))
    disk.close()


def test_a_new_file_is_removed_and_an_old_one_emptied(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    for path in (new, old):
        disk = BlockFile(8, path)
        disk.write(2, memoryview(page(7)))
        assert path.stat().st_size == 8 * BLOCK_SIZE
        disk.close()
        disk.close()
    assert not new.exists()
    assert old.stat().st_size == 0


def test_a_temporary_disk_leaves_no_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    disk = BlockFile(8)
    assert list(tmp_path.iterdir()) == []
    disk.close()


def test_a_disk_that_was_left_behind_is_used_again_and_comes_up_empty(tmp_path):
    path = tmp_path / "swap"
    left = BlockFile(8, path)
    left.write(2, memoryview(page(7)))
    os.close(left._fd)
    disk = BlockFile(8, path)
    assert disk.read(2, 1) == page(0)
    disk.close()


def test_other_files_and_other_processes_disks_are_left_alone(tmp_path):
    precious = tmp_path / "letter"
    precious.write_bytes(b"dear")
    with pytest.raises(DiskRefused, match="something other than a disk"):
        BlockFile(8, precious)
    assert precious.read_bytes() == b"dear"
    disk = BlockFile(8, tmp_path / "swap")
    with pytest.raises(DiskRefused, match="another process"):
        BlockFile(8, tmp_path / "swap")
    disk.close()


def test_a_file_that_was_cut_is_an_error():
    disk = BlockFile(8)
    os.ftruncate(disk._fd, 3 * BLOCK_SIZE)
    with pytest.raises(OSError, match="short read"):
        disk.read(2, 2)
    disk.close()
