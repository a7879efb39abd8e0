"""The file of a checkpoint: what it is of, and one sealed snapshot for each part of the machine.

The file is a line ``vmglue-checkpoint 2``, the length of a JSON header (uint32, little-endian), the header, the parts
one behind the other as the header lists them, and a checksum over everything before it (BLAKE2b, 32 bytes).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.snapshot import SnapshotError, decode, unseal

VERSION = 2
"""Version of the file; a reader refuses any other."""
_NAME = b"vmglue-checkpoint "
_LENGTH = struct.Struct("<I")
_CHECKSUM_BYTES = 32
_LINE_MAX = 40


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the text is one line that says why."""


class CheckpointTooLarge(CheckpointError):
    """A checkpoint that some process has not the memory for."""


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """A checkpoint as it lies in a file."""

    about: Mapping[str, Any]
    """What it is of: workload, seed, virtual time, progress, versions."""
    parts: Mapping[str, bytes]
    """Sealed snapshots by name: the run, and each service."""

    def pack(self) -> bytes:
        """The file's bytes."""
        about = {**self.about, "parts": {name: len(part) for name, part in self.parts.items()}}
        header = json.dumps(about, separators=(",", ":")).encode()
        pieces = (_NAME, b"%d\n" % VERSION, _LENGTH.pack(len(header)), header, *self.parts.values())
        return b"".join((*pieces, _checksum(*pieces)))

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> CheckpointFile:
        """The checkpoint in a file's bytes.

        Raises:
            CheckpointError: They are no checkpoint, of another version, cut or damaged.
        """
        line, newline, _ = bytes(data[:_LINE_MAX]).partition(b"\n")
        if not line.startswith(_NAME) or not newline:
            raise CheckpointError("not a checkpoint of vmglue")
        version = line.removeprefix(_NAME).decode("ascii", "replace")
        if version != str(VERSION):
            raise CheckpointError(f"a checkpoint of version {version!r}; this program reads version {VERSION}")
        body = memoryview(data)[:-_CHECKSUM_BYTES]  # its parts are no copies
        if _checksum(body) != data[-_CHECKSUM_BYTES:]:
            raise CheckpointError("the checksum is wrong: the checkpoint is cut or damaged")
        try:
            return cls._parsed(body[len(line) + 1 :])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, struct.error) as error:
            raise CheckpointError(f"the checkpoint's header is damaged: {error}") from None

    @classmethod
    def _parsed(cls, body: memoryview) -> CheckpointFile:
        (length,) = _LENGTH.unpack_from(body)
        at = _LENGTH.size + length
        about = json.loads(bytes(body[_LENGTH.size : at]))
        parts = {}
        for name, size in about.pop("parts").items():
            if not isinstance(size, int) or not 0 <= size <= len(body) - at:
                raise ValueError(f"{name} has {size} bytes")
            parts[name] = bytes(body[at : at + size])
            at += size
        if at != len(body):
            raise ValueError(f"{len(body) - at} bytes belong to no part")
        return cls(about, parts)

    def tree(self) -> dict[str, Any]:
        """All parts as plain values, for looking at: objects are nodes with their fields by name.

        Raises:
            CheckpointError: A part is damaged.
        """
        try:
            return {name: decode(unseal(part), None) for name, part in self.parts.items()}
        except SnapshotError as error:
            raise CheckpointError(str(error)) from None


def _checksum(*pieces: bytes | memoryview) -> bytes:
    checksum = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
    for piece in pieces:
        checksum.update(piece)
    return checksum.digest()
