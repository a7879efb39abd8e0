"""Snapshots: plain data as bytes and back, for checkpoints. Nothing in a snapshot is executed when it is read.

A snapshot holds numbers, text, containers, numpy arrays and objects of registered classes: dataclasses, named tuples,
enumerations, and classes that list their attributes in ``CHECKPOINTED`` (their method ``bind``, if they have one, makes
what is derived from these anew). Objects and containers that occur twice are one afterwards, too, but for a mapping
that can only be read, which becomes a dict of its own. Sealed, a snapshot is compressed and carries its version, its
size and a checksum.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import typing
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from services.runtime.limits import CHECKPOINT_BYTES_MAX, CHECKPOINT_OF_MEMORY
from services.runtime.process import growth_limited, memory_left

VERSION = 1
"""Version of the encoding; a reader refuses any other."""
SIZE_MAX = CHECKPOINT_BYTES_MAX
"""Largest snapshot, in bytes before compression."""
_HEAD = struct.Struct("<8sHQ32s")
_MAGIC = b"vmg-snap"
_DEPTH_MAX = 100
_PACK_FROM = 4
"""Containers of at least so many plain ints are written as arrays."""
_DTYPES = frozenset(kind + size for kind in ("<i", "<u") for size in "248") | {"|i1", "|u1", "|b1", "<f4", "<f8"}
_DIMENSIONS_MAX = 4
_MISFITS = (AttributeError, OverflowError, RecursionError, TypeError, ValueError)
"""What values that fit nowhere raise in Python's and numpy's own constructors."""


class SnapshotError(Exception):
    """A snapshot that cannot be read; the text is one line that says why."""


class SnapshotTooLarge(SnapshotError):
    """A snapshot that this process has not the memory for."""


class Form(NamedTuple):
    """How objects of one class are taken apart and put together."""

    cls: type
    """The class."""
    fields: tuple[str, ...]
    """Attributes in the order of their values; an enumeration has the one field `value`."""


class Node(dict[str, Any]):
    """An object of a class that the reader does not know: its fields by name.

    Attributes:
        type: Name of the class.
    """

    def __init__(self, type_: str) -> None:
        super().__init__()
        self.type = type_


class Registry:
    """The classes whose objects a snapshot may hold, by name.

    Attributes:
        forms: Form of each class by its name.
    """

    def __init__(self, *hints: Any) -> None:
        """Register classes, and those that the annotations of their fields name, and so on.

        Args:
            hints: Classes or other annotations.

        Raises:
            TypeError: Two classes have one name.
        """
        self.forms: dict[str, Form] = {}
        for hint in hints:
            self._walk(hint)

    def _walk(self, hint: Any) -> None:
        for part in typing.get_args(hint):
            self._walk(part)
        if not isinstance(hint, type) or typing.get_origin(hint) is not None:
            return
        form = form_of(hint)
        if form is None:
            return
        known = self.forms.setdefault(hint.__name__, form)
        if known.cls is not hint:
            raise TypeError(f"two classes are named {hint.__name__}: {known.cls!r} and {hint!r}")
        if known is form and not issubclass(hint, Enum):
            hints = typing.get_type_hints(hint)
            for name in form.fields:
                self._walk(hints.get(name))


def form_of(cls: type) -> Form | None:
    """How a class is taken apart; None for one that has no place in a snapshot, or needs no form."""
    if issubclass(cls, Enum):
        return Form(cls, ("value",))
    if hasattr(cls, "CHECKPOINTED"):
        return Form(cls, tuple(cls.CHECKPOINTED))
    if dataclasses.is_dataclass(cls):
        return Form(cls, tuple(field.name for field in dataclasses.fields(cls)))
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return Form(cls, tuple(cls._fields))
    return None


def encode(value: Any, registry: Registry) -> bytes:
    """Write plain data down.

    Raises:
        SnapshotTooLarge: This process has not the memory for it.
        TypeError: It holds something that has no place in a snapshot.
    """
    encoder = _Encoder(registry, size_max())
    encoder.write(value)
    return bytes(encoder.out)


def decode(data: bytes, registry: Registry | None) -> Any:
    """Read plain data.

    Args:
        data: What `encode` wrote.
        registry: The classes that it may hold; None: objects become nodes, enumerations text.

    Raises:
        SnapshotTooLarge: This process has not the memory for what it holds: some bytes stand for ten times as many.
        SnapshotError: It is damaged, or holds an object of another class or with other fields.
    """
    decoder = _Decoder(data, registry)
    try:
        with growth_limited(memory_left() // 4 * 3):
            value = decoder.read()
            for bind in decoder.binds:
                bind()
    except MemoryError:
        raise SnapshotTooLarge(f"what its {len(data)} bytes hold needs more than the memory that is left") from None
    except _MISFITS as error:
        raise SnapshotError(f"the snapshot is damaged at byte {decoder.at}: {error}") from None
    if decoder.at != len(data):
        raise SnapshotError(f"the snapshot is damaged: {len(data) - decoder.at} bytes are left over")
    return value


def seal(snapshot: bytes) -> bytes:
    """Compress a snapshot and give it version, size and checksum."""
    packed = zlib.compress(snapshot, 1)
    return _HEAD.pack(_MAGIC, VERSION, len(snapshot), _checksum(VERSION, len(snapshot), packed)) + packed


def size_max() -> int:
    """Largest snapshot that this process has the memory for, packed or unpacked."""
    return min(SIZE_MAX, memory_left() // CHECKPOINT_OF_MEMORY)


def unseal(sealed: bytes | bytearray | memoryview) -> bytes:
    """The snapshot in what `seal` made.

    Raises:
        SnapshotTooLarge: This process has not the memory for it.
        SnapshotError: It is no snapshot, of another version, cut or damaged.
    """
    sealed = memoryview(sealed)  # its parts are no copies
    if len(sealed) < _HEAD.size or sealed[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError("this is no snapshot of vmglue")
    _, version, size, checksum = _HEAD.unpack_from(sealed)
    if version != VERSION:
        raise SnapshotError(f"the snapshot has version {version}, this program reads {VERSION}")
    packed = sealed[_HEAD.size :]
    if _checksum(version, size, packed) != checksum:
        raise SnapshotError("the snapshot's checksum is wrong: it is cut or damaged")
    if size > (limit := size_max()):
        raise SnapshotTooLarge(f"the snapshot has {size} bytes, at most {limit} are read")
    unpacker = zlib.decompressobj()
    try:
        snapshot = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise SnapshotError(f"the snapshot is damaged: {error}") from None
    if len(snapshot) != size:
        raise SnapshotError(f"the snapshot has another size than the {size} bytes that it claims")
    return snapshot


def _checksum(version: int, size: int, packed: bytes | memoryview) -> bytes:
    checksum = hashlib.blake2b(struct.pack("<HQ", version, size), digest_size=32)
    checksum.update(packed)
    return checksum.digest()


class _Encoder:
    """Writes values one behind the other.

    Attributes:
        out: What was written.
    """

    def __init__(self, registry: Registry, limit: int) -> None:
        self.out = bytearray()
        self._limit = limit
        self._forms = {form.cls: (name, form.fields) for name, form in registry.forms.items()}
        self._types: dict[type, int] = {}
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # an id is one object's only while it lives
        self._writers: dict[type, Callable[[Any], None]] = {
            int: self._int,
            str: lambda text: self._bytes(b"s", text.encode()),
            bytes: lambda data: self._bytes(b"y", data),
            float: lambda number: self._raw(b"f" + struct.pack("<d", number)),
            tuple: self._tuple,
            bool: lambda flag: self._raw(b"T" if flag else b"F"),
            type(None): lambda _: self._raw(b"N"),
            MappingProxyType: lambda shared: self.write(dict(shared)),
        }
        self._shared: dict[type, Callable[[Any], None]] = {
            list: self._list,
            dict: self._dict,
            deque: self._deque,
            bytearray: lambda data: self._bytes(b"Y", data),
            np.ndarray: self._array,
        }

    def write(self, value: Any) -> None:
        """Write any value."""
        cls = value.__class__
        if (writer := self._writers.get(cls)) is not None:
            writer(value)
        elif (writer := self._shared.get(cls)) is not None:
            if not self._again(value):
                writer(value)
        elif cls in self._forms:
            self._object(value)
        elif isinstance(value, np.generic):
            self._bytes(b"g" + self._dtype(value.dtype), value.tobytes())
        elif isinstance(value, PurePath):
            self._bytes(b"p", value.name.encode())
        else:
            raise TypeError(f"{cls.__module__}.{cls.__qualname__} has no place in a snapshot: {value!r:.100}")

    def _raw(self, data: bytes) -> None:
        self.out += data

    def _count(self, number: int) -> None:
        self.out += number.to_bytes(5, "little")

    def _bytes(self, tag: bytes, data: bytes | bytearray | memoryview) -> None:
        self._make_room(len(data))
        self.out += tag
        self._count(len(data))
        self.out += data

    def _make_room(self, size: int) -> None:
        """Refuse what is too large before it is copied."""
        if len(self.out) + size > self._limit:
            raise SnapshotTooLarge(
                f"a snapshot of more than {self._limit} bytes, which the memory that is left permits"
            )

    def _int(self, number: int) -> None:
        size = (number.bit_length() + 8) // 8
        if size < 256:
            self.out += bytes((105, size))  # i
        else:
            self.out += b"I"
            self._count(size)
        self.out += number.to_bytes(size, "little", signed=True)

    def _again(self, value: Any) -> bool:
        """Write a reference to what was written before; False: it is new, and has a number from now on."""
        number = self._numbers.setdefault(id(value), len(self._numbers))
        if number < len(self._kept):
            self.out += b"r"
            self._count(number)
            return True
        self._kept.append(value)
        return False

    def _items(self, tag: bytes, values: Iterable[Any], count: int) -> None:
        self.out += tag
        self._count(count)
        for value in values:
            self.write(value)

    def _tuple(self, values: tuple[Any, ...]) -> None:
        self._items(b"t", values, len(values))

    def _list(self, values: list[Any]) -> None:
        packed = _packed(values)
        if packed is not None:
            self._bytes(b"L", packed)
        else:
            self._items(b"l", values, len(values))

    def _dict(self, values: dict[Any, Any]) -> None:
        keys = _packed(values.keys())
        if keys is not None and all(value is None for value in values.values()):
            self._bytes(b"S", keys)
            return
        packed = _packed(values.values()) if keys is not None else None
        if keys is not None and packed is not None:
            self._bytes(b"D", keys + packed)
        else:
            self._items(b"d", (part for entry in values.items() for part in entry), len(values))

    def _deque(self, values: deque[Any]) -> None:
        self.out += b"q"
        self.write(values.maxlen)
        self._items(b"l", values, len(values))

    def _dtype(self, dtype: np.dtype[Any]) -> bytes:
        if dtype.str not in _DTYPES:
            raise TypeError(f"an array of {dtype.str} has no place in a snapshot")
        return dtype.str.encode()

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        assert array.ndim <= _DIMENSIONS_MAX, "an array of more dimensions than are read"
        self._make_room(array.nbytes)
        self.out += b"a" + self._dtype(array.dtype) + bytes((array.ndim,))
        for length in array.shape:
            self._count(length)
        self.out += array.tobytes()

    def _object(self, value: Any) -> None:
        cls = value.__class__
        shared = not isinstance(value, (Enum, tuple))
        if shared and self._again(value):
            return
        name, fields = self._forms[cls]
        self.out += b"o" if shared else b"e" if isinstance(value, Enum) else b"n"
        known = len(self._types)
        number = self._types.setdefault(cls, known)
        self._count(number)
        if number == known:
            self._bytes(b"s", name.encode())
            self._count(len(fields))
            for field in fields:
                self._bytes(b"s", field.encode())
        for field in fields:
            self.write(getattr(value, field))


def _packed(values: Iterable[Any]) -> bytes | None:
    """Plain ints of 64 bits as an array; None: there are few of them, or other values."""
    numbers = list(values)
    if len(numbers) < _PACK_FROM or set(map(type, numbers)) != {int}:
        return None
    try:
        return np.array(numbers, np.int64).tobytes()
    except OverflowError:
        return None


class _Decoder:
    """Reads values one behind the other; every length is compared with what is there.

    Attributes:
        at: Bytes that were read.
        binds: What is to be called when everything has been read.
    """

    def __init__(self, data: bytes, registry: Registry | None) -> None:
        self.at = 0
        self.binds: list[Callable[[], None]] = []
        self._data, self._registry = data, registry
        self._seen: list[Any] = []
        self._types: list[tuple[str, Form | None, tuple[str, ...]]] = []
        self._depth = 0
        self._readers: dict[bytes, Callable[[], Any]] = {
            b"N": lambda: None,
            b"T": lambda: True,
            b"F": lambda: False,
            b"i": lambda: self._signed(self._take(1)[0]),
            b"I": lambda: self._signed(self._count()),
            b"f": lambda: struct.unpack("<d", self._take(8))[0],
            b"s": self._text,
            b"y": self._bytes,
            b"Y": lambda: self._new(bytearray(self._bytes())),
            b"p": self._path,
            b"t": lambda: tuple(self._many(self._count())),
            b"l": self._list,
            b"L": lambda: self._new(self._ints().tolist()),
            b"d": self._dict,
            b"D": self._int_dict,
            b"S": lambda: self._new(dict.fromkeys(self._ints().tolist())),
            b"q": self._deque,
            b"a": self._array,
            b"g": self._scalar,
            b"o": self._object,
            b"e": self._enum,
            b"n": self._named_tuple,
            b"r": self._reference,
        }

    def read(self) -> Any:
        """Read one value.

        Raises:
            SnapshotError: What is there is no value.
        """
        tag = self._take(1)
        reader = self._readers.get(tag)
        if reader is None:
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: no value begins with {tag!r}")
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: it is nested too deeply")
        value = reader()
        self._depth -= 1
        return value

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: {count} bytes are missing")
        self.at += count
        return self._data[self.at - count : self.at]

    def _count(self) -> int:
        return int.from_bytes(self._take(5), "little")

    def _signed(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little", signed=True)

    def _bytes(self) -> bytes:
        return self._take(self._count())

    def _text(self) -> str:
        return self._bytes().decode()

    def _path(self) -> PurePath:
        return PurePath(PurePath(self._text()).name)

    def _new(self, value: Any) -> Any:
        """Give a value its number, as the writer did."""
        self._seen.append(value)
        return value

    def _many(self, count: int) -> list[Any]:
        if count > len(self._data) - self.at:
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: {count} values are missing")
        return [self.read() for _ in range(count)]

    def _list(self) -> list[Any]:
        values: list[Any] = self._new([])
        values += self._many(self._count())
        return values

    def _ints(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.frombuffer(self._bytes(), np.int64)

    def _dict(self) -> dict[Any, Any]:
        values: dict[Any, Any] = self._new({})
        parts = self._many(2 * self._count())
        values.update(zip(parts[::2], parts[1::2], strict=True))
        return values

    def _int_dict(self) -> dict[int, int]:
        numbers = self._ints().tolist()
        half = len(numbers) // 2
        values: dict[int, int] = self._new(dict(zip(numbers[:half], numbers[half:], strict=True)))
        return values

    def _deque(self) -> deque[Any]:
        limit = self.read()
        values: deque[Any] = self._new(deque(maxlen=limit))
        if self._take(1) != b"l":
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: a queue without its values")
        values.extend(self._many(self._count()))
        return values

    def _dtype(self) -> np.dtype[Any]:
        name = self._take(3).decode()
        if name not in _DTYPES:
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: arrays of {name!r} are not read")
        return np.dtype(name)

    def _array(self) -> np.ndarray[Any, Any]:
        dtype, dimensions = self._dtype(), self._take(1)[0]
        if dimensions > _DIMENSIONS_MAX:
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: an array of {dimensions} dimensions")
        shape = [self._count() for _ in range(dimensions)]
        size = dtype.itemsize
        for length in shape:
            size *= length
        array: np.ndarray[Any, Any] = np.frombuffer(self._take(size), dtype).reshape(shape).copy()
        return typing.cast("np.ndarray[Any, Any]", self._new(array))

    def _scalar(self) -> Any:
        dtype = self._dtype()
        (value,) = np.frombuffer(self._bytes(), dtype)
        return value

    def _reference(self) -> Any:
        number = self._count()
        if number >= len(self._seen):
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: a reference to what is not there")
        return self._seen[number]

    def _type(self) -> tuple[str, Form | None, tuple[str, ...]]:
        """The class of the next object; its first object names it and its fields.

        Raises:
            SnapshotError: Nobody knows the class, or it has other fields here.
        """
        number = self._count()
        if number == len(self._types):
            name = self._named()
            fields = tuple(self._named() for _ in range(self._count()))
            self._types.append((name, self._form(name, fields), fields))
        if number >= len(self._types):
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: an object without a class")
        return self._types[number]

    def _named(self) -> str:
        if self._take(1) != b"s":
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: a name is missing")
        return self._text()

    def _form(self, name: str, fields: tuple[str, ...]) -> Form | None:
        if self._registry is None:
            return None
        form = self._registry.forms.get(name)
        if form is None:
            raise SnapshotError(f"the snapshot holds a {name!r}, which has no place in it")
        if form.fields != fields:
            other = sorted(set(form.fields) ^ set(fields)) or ["their order"]
            raise SnapshotError(f"the snapshot's {name} is of another version of this program: {', '.join(other)}")
        return form

    def _object(self) -> Any:
        name, form, fields = self._type()
        if form is None:
            node: Node = self._new(Node(name))
            for field in fields:
                node[field] = self.read()
            return node
        if issubclass(form.cls, (Enum, tuple)):
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: {name} is no object")
        value = self._new(object.__new__(form.cls))
        for field in fields:
            object.__setattr__(value, field, self.read())
        if hasattr(form.cls, "bind"):
            self.binds.append(value.bind)
        return value

    def _enum(self) -> Any:
        name, form, fields = self._type()
        if len(fields) != 1:
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: {name} is no enumeration")
        value = self.read()
        if form is None:
            return f"{name}({value!r})"
        if not issubclass(form.cls, Enum):
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: {name} is no enumeration")
        return form.cls(value)

    def _named_tuple(self) -> Any:
        name, form, fields = self._type()
        values = [self.read() for _ in fields]
        if form is None:
            node = Node(name)
            node.update(zip(fields, values, strict=True))
            return node
        if not issubclass(form.cls, tuple):
            raise SnapshotError(f"the snapshot is damaged at byte {self.at}: {name} is no tuple")
        return form.cls(*values)
