"""The ports and the committed .proto files say the same, both ways."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import IntEnum

import pytest
from google.protobuf.descriptor import FieldDescriptor

from services.ports.common import Upcalls
from services.ports.kstack import KstackPort
from services.ports.pager import PagerPort
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import SchedulerPort, SpawnRequest
from services.runtime.binding import methods_of, reads_of
from services.runtime.codec import wire_name
from services.runtime.context import Context
from services.runtime.counters import MemoryBoard
from services.runtime.rpc import grpc_of, messages_of, rpc_name, rpcs_of, service_of
from services.runtime.servicer import Node, PortServicer

PORTS = (PagerPort, PhysmemPort, KstackPort, SchedulerPort)
RENAMED_TYPES = {SpawnRequest: "Program"}  # SpawnRequest is the request of the rpc Spawn
SCALARS = {
    "int32": FieldDescriptor.TYPE_INT32,
    "uint32": FieldDescriptor.TYPE_UINT32,
    "int64": FieldDescriptor.TYPE_INT64,
    "uint64": FieldDescriptor.TYPE_UINT64,
    bool: FieldDescriptor.TYPE_BOOL,
    str: FieldDescriptor.TYPE_STRING,
    bytes: FieldDescriptor.TYPE_BYTES,
}


def service_descriptor(port):
    return messages_of(port).DESCRIPTOR.services_by_name[f"{service_of(port).capitalize()}Service"]


def differences(hints, message, skip):
    """Sentences about what differs between typed names and a message's fields."""
    fields = [field for field in message.fields if field.name not in skip]
    names = [wire_name(name) for name in hints]
    if [field.name for field in fields] != names:
        return [f"{message.full_name}: {[field.name for field in fields]} is not {names}"]
    return [
        difference
        for field, hint in zip(fields, hints.values(), strict=True)
        for difference in type_differences(hint, field)
    ]


def type_differences(hint, field, repeated=False):
    origin = typing.get_origin(hint)
    if origin is list:
        if not field.is_repeated:
            return [f"{field.full_name} is not repeated"]
        return type_differences(typing.get_args(hint)[0], field, repeated=True)
    if field.is_repeated and not repeated:
        return [f"{field.full_name} is repeated"]
    if origin in (types.UnionType, typing.Union):
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        if not field.has_presence:
            return [f"{field.full_name} cannot be absent"]
    key = typing.get_args(hint)[1] if typing.get_origin(hint) is typing.Annotated else hint
    if key in SCALARS:
        return [] if field.type == SCALARS[key] else [f"{field.full_name} is no {key}"]
    if issubclass(key, IntEnum):
        return enum_differences(key, field)
    if field.message_type is None or field.message_type.name != RENAMED_TYPES.get(key, key.__name__):
        return [f"{field.full_name} is no {key.__name__}"]
    return dataclass_differences(key, field.message_type, skip=())


def enum_differences(cls, field):
    if field.enum_type is None or field.enum_type.name != cls.__name__:
        return [f"{field.full_name} is no {cls.__name__}"]
    prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
    found = {value.name.removeprefix(prefix): value.number for value in field.enum_type.values}
    expected = {"UNSPECIFIED": 0} | {member.name: member + 1 for member in cls}
    return [] if found == expected else [f"{cls.__name__}: {found} is not {expected}"]


def dataclass_differences(cls, message, skip):
    hints = typing.get_type_hints(cls, include_extras=True)
    return differences({field.name: hints[field.name] for field in dataclasses.fields(cls)}, message, skip)


@pytest.mark.parametrize("port", PORTS)
def test_every_method_is_an_rpc_and_every_rpc_a_method(port):
    assert [method.name for method in service_descriptor(port).methods] == [rpc_name(m) for m in methods_of(port)]


@pytest.mark.parametrize("port", PORTS)
def test_parameters_and_answers_are_the_messages_fields(port):
    found = []
    for method in methods_of(port):
        rpc = service_descriptor(port).methods_by_name[rpc_name(method)]
        hints = typing.get_type_hints(getattr(port, method), include_extras=True)
        answer = hints.pop("return")
        assert rpc.input_type.fields_by_name["header"].message_type.full_name == "vmglue.common.v1.CallHeader"
        assert rpc.output_type.fields_by_name["header"].message_type.full_name == "vmglue.common.v1.AnswerHeader"
        found += differences(hints, rpc.input_type, skip=("header",))
        found += dataclass_differences(answer, rpc.output_type, skip=("header",))
    assert found == []


@pytest.mark.parametrize("port", PORTS)
def test_no_message_is_left_over(port):
    reached, todo = set(), [m for rpc in service_descriptor(port).methods for m in (rpc.input_type, rpc.output_type)]
    while todo:
        message = todo.pop()
        if message.full_name not in reached:
            reached.add(message.full_name)
            todo += [field.message_type for field in message.fields if field.message_type]
    declared = {message.full_name for message in messages_of(port).DESCRIPTOR.message_types_by_name.values()}
    assert declared <= reached


@pytest.mark.parametrize("port", PORTS)
def test_reads_are_methods_of_the_port(port):
    assert reads_of(port) <= set(methods_of(port))
    assert "boot" not in reads_of(port)


@pytest.mark.parametrize("port", PORTS)
def test_servicer_and_stub_wrap_every_rpc(port):
    class AnyCore:
        def __getattr__(self, name):
            return lambda *_: None

    servicer = PortServicer(port, AnyCore(), Node(service_of(port), "m", 1, Context("toy"), MemoryBoard()))
    generated = getattr(grpc_of(port), f"{service_of(port).capitalize()}ServiceServicer")
    rpcs = {name for name in vars(generated) if not name.startswith("_")}
    assert rpcs == {rpc.name for rpc in rpcs_of(port)}
    assert rpcs == set(vars(servicer)) - {"_node", "_log"}


def test_upcalls_are_their_message():
    from protos import common_pb2

    assert dataclass_differences(Upcalls, common_pb2.Upcalls.DESCRIPTOR, skip=()) == []


def test_a_difference_is_noticed():
    from protos import pager_pb2

    hints = {"obj": typing.Annotated[int, "int32"], "first": bool, "size": bool}
    assert differences(hints, pager_pb2.PageRange.DESCRIPTOR, skip=())
    hints = {"obj": typing.Annotated[int, "int32"], "first": typing.Annotated[int, "uint64"], "count": bool}
    assert len(differences(hints, pager_pb2.PageRange.DESCRIPTOR, skip=())) == 2
