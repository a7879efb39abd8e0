"""Where the bytes of a block device really lie."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

BLOCK_SIZE = 4096
"""Bytes of a block; a page of memory fills one."""
_LABEL = b"vmglue block device\n"


class DiskRefused(OSError):
    """A file that may not become a disk: another process has it, or it holds something else."""


class BlockFile:
    """The bytes of a block device in a sparse host file, which is gone or empty after close().

    Block 0 carries a label by which a disk that was left behind is told from a file that must not be overwritten; the
    user of the device leaves it alone, as swap_pager.c does with the first two blocks.

    Attributes:
        blocks: Size of the device.
        path: The backing file; None: a temporary file without a name.
        write_refusal: Why the host refused the last write; empty: it did not. No read that works makes up for it.
        read_refusal: The same for the last read.
    """

    def __init__(self, blocks: int, path: Path | None = None) -> None:
        """Create or empty the backing file.

        Args:
            blocks: Size of the device.
            path: Where the bytes go; None: an unlinked temporary file, which cannot be left behind.

        Raises:
            DiskRefused: Another process has the file, or it is not empty and was never a disk.
            OSError: The file cannot be made.
        """
        self.blocks, self.path = blocks, path
        self.write_refusal = self.read_refusal = ""
        self._made = path is not None and not path.exists()
        self._fd = _temporary() if path is None else _claimed(path)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, _LABEL, 0)
        os.ftruncate(self._fd, blocks * BLOCK_SIZE)

    def write(self, block: int, data: memoryview) -> None:
        """Write whole blocks one after another, beginning at `block`, in one host operation.

        Raises:
            OSError: The host refused (no space, input or output error).
        """
        assert block * BLOCK_SIZE + data.nbytes <= self.blocks * BLOCK_SIZE, "a write beyond the end of the device"
        try:
            done = os.pwrite(self._fd, data, block * BLOCK_SIZE)
            while done < data.nbytes:  # a signal may cut it
                done += os.pwrite(self._fd, data[done:], block * BLOCK_SIZE + done)
        except OSError as error:
            self.write_refusal = _reason(error)
            raise
        self.write_refusal = ""

    def read(self, block: int, count: int) -> bytes:
        """Read `count` blocks beginning at `block`.

        Raises:
            OSError: The host refused or the file was cut.
        """
        assert block + count <= self.blocks, "a read beyond the end of the device"
        try:
            data = os.pread(self._fd, count * BLOCK_SIZE, block * BLOCK_SIZE)
            if len(data) != count * BLOCK_SIZE:
                raise OSError(f"short read: {len(data)} of {count * BLOCK_SIZE} bytes")
        except OSError as error:
            self.read_refusal = _reason(error)
            raise
        self.read_refusal = ""
        return data

    def close(self) -> None:
        """Give the space back: a file that was made here is removed, one that was there before is emptied."""
        if self._fd < 0:
            return
        os.ftruncate(self._fd, 0)
        if self.path is not None and self._made:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


def _reason(error: OSError) -> str:
    """What the host said."""
    return error.strerror or str(error)


def _temporary() -> int:
    """Open a temporary file that has no name any more."""
    fd, name = tempfile.mkstemp(prefix="vmglue-disk-")
    os.unlink(name)
    return fd


def _claimed(path: Path) -> int:
    """Open a file for this process alone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.pread(fd, len(_LABEL), 0) not in (b"", _LABEL):
            raise DiskRefused(errno.EEXIST, "the file holds something other than a disk", str(path))
    except BlockingIOError as error:
        os.close(fd)
        raise DiskRefused(errno.EBUSY, "the disk's file belongs to another process", str(path)) from error
    except OSError:
        os.close(fd)
        raise
    return fd
