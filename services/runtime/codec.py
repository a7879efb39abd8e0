"""Codec between the ports' dataclasses and protobuf messages, derived once a type from its annotations.

Encoding answers keyword arguments for a message's constructor, nested messages as dicts, so that protobuf's C code
builds the whole tree in one call. Ranges are left to protobuf as well: only when it refuses is the tree walked to name
the field. The local binding walks it always, since nothing else would check its calls.
"""

from __future__ import annotations

import dataclasses
import struct
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import cache
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from services.runtime.errors import Reason, Refused

if TYPE_CHECKING:  # the local binding checks its calls without protobuf
    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
    from google.protobuf.message import Message

RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint64": (0, (1 << 64) - 1),
}
"""Least and greatest value of each C width."""

_PACKED = {RANGES["int32"]: "i", RANGES["uint32"]: "I", RANGES["int64"]: "q", RANGES["uint64"]: "Q"}
"""The code of struct(3) that takes the integers of a range, and no others."""

RENAMED_FIELDS = {"header": "image_header", "pass_": "pass"}
"""Python names that the contract cannot use: `header` is every message's envelope, and `pass` is a Python keyword."""

Check = Callable[[Any], None]
"""Raises Refused if a value does not fit; whoever holds the value adds its name to the refusal's field."""


class Kind(NamedTuple):
    """How values of one Python type are checked and carried; None: as they are.

    Values of exactly the type `plain` are right if they lie within `range`, or without a range at all: most are, and
    need no call of `check`.
    """

    check: Check
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    plain: type | None = None
    range: tuple[int, int] | None = None


def wire_name(name: str) -> str:
    """Name of a parameter or field in the contract."""
    return RENAMED_FIELDS.get(name, name)


def kind_of(hint: Any, descriptor: FieldDescriptor | None) -> Kind:
    """How values of a type are checked and, if its field in the contract is given, carried.

    Raises:
        TypeError: The type has no place in a port.
    """
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _integer(typing.get_args(hint)[1])
    if origin is list:
        return _list(kind_of(typing.get_args(hint)[0], descriptor))
    if origin in (types.UnionType, typing.Union):
        return _optional(kind_of(_without_none(hint), descriptor))
    if hint is bytes:
        return _octets()
    if hint in (bool, str):
        return _plain(hint)
    if issubclass(hint, IntEnum):
        return _enum(hint, descriptor.enum_type if descriptor else None)
    if dataclasses.is_dataclass(hint):
        codec = dataclass_codec(typing.cast("type", hint), descriptor.message_type if descriptor else None)
        return Kind(codec.check, codec.encode, codec.decode)
    raise TypeError(f"{hint!r} has no place in a port")


class Fields:
    """Codec of a sequence of named values: the parameters of a method or the fields of a dataclass.

    Attributes:
        names: Names in Python, in order.
    """

    def __init__(self, hints: dict[str, Any], descriptor: Descriptor | None) -> None:
        self.names = tuple(hints)
        self._wire = tuple(wire_name(name) for name in hints)
        fields = descriptor.fields_by_name if descriptor else {}
        self._kinds = [kind_of(hint, fields.get(wire)) for wire, hint in zip(self._wire, hints.values(), strict=True)]
        self._loose = [i for i, kind in enumerate(self._kinds) if kind.plain is None]
        plain = [i for i, kind in enumerate(self._kinds) if kind.plain is not None]
        self._plain = _items_getter(plain)
        self._plain_types = tuple(self._kinds[i].plain for i in plain)
        ranges = {i: kind.range for i, kind in enumerate(self._kinds) if kind.range is not None}
        self._integers = _items_getter(list(ranges))
        self._pack = struct.Struct("=" + "".join(_PACKED[bounds] for bounds in ranges.values())).pack
        self._encoders = [(i, kind.encode) for i, kind in enumerate(self._kinds) if kind.encode]
        self._decoders = [(i, kind.decode) for i, kind in enumerate(self._kinds) if kind.decode]
        self._optional = [
            (i, wire)
            for i, (wire, hint) in enumerate(zip(self._wire, hints.values(), strict=True))
            if typing.get_origin(hint) in (types.UnionType, typing.Union)
        ]
        self._get = values_getter(self._wire)

    def encode(self, values: Iterable[Any]) -> dict[str, Any]:
        """Keyword arguments of the message for values in order of `names`."""
        if not self._encoders:
            return dict(zip(self._wire, values, strict=True))
        carried = list(values)
        for i, encode in self._encoders:
            carried[i] = encode(carried[i])
        return dict(zip(self._wire, carried, strict=True))

    def decode(self, message: Message) -> list[Any]:
        """Values in order of `names`.

        Raises:
            Refused: An enumeration holds no value of its type.
        """
        values = list(self._get(message))
        for i, wire in self._optional:
            if not message.HasField(wire):
                values[i] = None
        for i, decode in self._decoders:
            try:
                values[i] = decode(values[i])
            except Refused as refused:
                raise _below(refused, self.names[i]) from None
        return values

    def check(self, values: Sequence[Any]) -> None:
        """Check values in order of `names`.

        Raises:
            Refused: A value does not fit; its field is named with the path to it.
        """
        for i in self._loose if self._fits_plainly(values) else range(len(self.names)):
            try:
                self._kinds[i].check(values[i])
            except Refused as refused:
                raise _below(refused, self.names[i]) from None

    def _fits_plainly(self, values: Sequence[Any]) -> bool:
        """All values of plain types are exactly of these types and in range: two steps for all of them together."""
        if tuple(map(type, self._plain(values))) != self._plain_types:
            return False
        try:
            self._pack(*self._integers(values))
        except struct.error:
            return False
        return True


class DataclassCodec:
    """Codec of one dataclass."""

    def __init__(self, cls: type, descriptor: Descriptor | None) -> None:
        hints = typing.get_type_hints(cls, include_extras=True)
        self._cls = cls
        self._fields = Fields({field.name: hints[field.name] for field in dataclasses.fields(cls)}, descriptor)
        self._get = values_getter(self._fields.names)

    def encode(self, value: Any) -> dict[str, Any]:
        """Keyword arguments of the message."""
        return self._fields.encode(self._get(value))

    def decode(self, message: Message) -> Any:
        """The dataclass that a message holds."""
        return self._cls(*self._fields.decode(message))

    def check(self, value: Any) -> None:
        """Check type and fields.

        Raises:
            Refused: A value does not fit.
        """
        if not isinstance(value, self._cls):
            raise _misfit(value, f"a {self._cls.__name__}")
        self._fields.check(self._get(value))


@cache
def dataclass_codec(cls: type, descriptor: Descriptor | None) -> DataclassCodec:
    """The codec of a dataclass and its message; without a message it only checks."""
    return DataclassCodec(cls, descriptor)


def values_getter(names: tuple[str, ...]) -> Callable[[Any], Sequence[Any]]:
    """A function that answers attributes of an object in order."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        single = attrgetter(names[0])
        return lambda value: (single(value),)
    return attrgetter(*names)


def _items_getter(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that answers items of a sequence in order."""
    if not places:
        return lambda _: ()
    if len(places) == 1:
        (single,) = places
        return lambda values: (values[single],)
    return itemgetter(*places)


def _misfit(value: object, expected: str) -> Refused:
    """A refusal of a value whose name is not known here."""
    return Refused(Reason.FIELD_OUT_OF_RANGE, "", value, expected)


def _below(refused: Refused, name: str) -> Refused:
    """The same refusal, its field named from one level further up."""
    below = refused.field
    path = name if not below else f"{name}{below}" if below.startswith("[") else f"{name}.{below}"
    return Refused(refused.reason, path, refused.value, refused.expected)


def _without_none(hint: Any) -> Any:
    (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    return inner


def _integer(width: str) -> Kind:
    low, high = RANGES[width]

    def check(value: Any) -> None:
        if value.__class__ is int:
            fits = low <= value <= high
        else:
            fits = value.__class__ is not bool and hasattr(value, "__index__") and low <= int(value) <= high
        if not fits:
            raise _misfit(value, f"{width}, {low} to {high}")

    return Kind(check, plain=int, range=(low, high))


def _plain(cls: type) -> Kind:
    def check(value: Any) -> None:
        if not isinstance(value, cls):
            raise _misfit(value, cls.__name__)

    return Kind(check, plain=cls)


def _octets() -> Kind:
    """Bytes, or a view of somebody's: within a process nothing is copied, a message has its own."""

    def check(value: Any) -> None:
        view = isinstance(value, memoryview) and value.readonly and value.format == "B" and value.c_contiguous
        if not (view or isinstance(value, bytes)):
            raise _misfit(value, "bytes")

    def encode(value: Any) -> Any:
        return bytes(value) if value.__class__ is memoryview else value

    return Kind(check, encode, plain=bytes)


def _enum(cls: type[IntEnum], descriptor: EnumDescriptor | None) -> Kind:
    expected = f"one of {', '.join(member.name for member in cls)}"

    def check(value: Any) -> None:
        if value not in cls._value2member_map_:
            raise _misfit(value, expected)

    if descriptor is None:
        return Kind(check, plain=cls)
    prefix = descriptor.values[0].name.removesuffix("UNSPECIFIED")
    numbers = {int(member): descriptor.values_by_name[prefix + member.name].number for member in cls}
    members = {numbers[int(member)]: member for member in cls}

    def encode(value: Any) -> int:
        try:
            return numbers[value]
        except KeyError:
            raise _misfit(value, expected) from None

    def decode(number: int) -> IntEnum:
        try:
            return members[number]
        except KeyError:
            raise _misfit(number, expected) from None

    return Kind(check, encode, decode, plain=cls)


def _list(item: Kind) -> Kind:
    item_check, encode, decode = item.check, item.encode, item.decode

    def check(values: Any) -> None:
        if not isinstance(values, (list, tuple)):
            raise _misfit(values, "a list")
        for i, value in enumerate(values):
            try:
                item_check(value)
            except Refused as refused:
                raise _below(refused, f"[{i}]") from None

    encode_all = None if encode is None else lambda values: [encode(value) for value in values]
    if decode is None:
        return Kind(check, encode_all, list)

    def decode_all(values: Iterable[Any]) -> list[Any]:
        decoded: list[Any] = []
        try:
            decoded.extend(map(decode, values))
        except Refused as refused:
            raise _below(refused, f"[{len(decoded)}]") from None
        return decoded

    return Kind(check, encode_all, decode_all)


def _optional(inner: Kind) -> Kind:
    inner_check, encode, decode = inner.check, inner.encode, inner.decode

    def check(value: Any) -> None:
        if value is not None:
            inner_check(value)

    return Kind(
        check,
        (lambda value: None if value is None else encode(value)) if encode else None,
        (lambda value: None if value is None else decode(value)) if decode else None,
    )
