"""The codec loses nothing, and names the field that does not fit."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_contract import PORTS

from services.ports.common import Outcome, Status, Stop, Suspension
from services.ports.kstack import ThreadStack
from services.ports.pager import ObjectKind, PutRun
from services.ports.physmem import MapOp, MapOpKind
from services.ports.scheduler import Trap, TrapOp
from services.runtime.codec import RANGES, Fields, dataclass_codec
from services.runtime.errors import Reason, Refused
from services.runtime.rpc import rpcs_of

RPCS = {f"{rpc.request.DESCRIPTOR.file.package}.{rpc.method}": rpc for port in PORTS for rpc in rpcs_of(port)}
HINTS = {
    f"{rpc.request.DESCRIPTOR.file.package}.{rpc.method}": typing.get_type_hints(
        getattr(port, rpc.method), include_extras=True
    )
    for port in PORTS
    for rpc in rpcs_of(port)
}


def values(hint):
    """Any value of a type."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return st.integers(*RANGES[typing.get_args(hint)[1]])
    if origin is list:
        return st.lists(values(typing.get_args(hint)[0]), max_size=3)
    if origin in (types.UnionType, typing.Union):
        return st.none() | values(next(arg for arg in typing.get_args(hint) if arg is not type(None)))
    if hint is bool:
        return st.booleans()
    if hint is str:
        return st.text(max_size=8)
    if hint is bytes:
        return st.binary(max_size=16)
    if issubclass(hint, IntEnum):
        return st.sampled_from(hint)
    hints = typing.get_type_hints(hint, include_extras=True)
    return st.builds(hint, **{field.name: values(hints[field.name]) for field in dataclasses.fields(hint)})


@pytest.mark.parametrize("name", RPCS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_arguments_and_answers_survive_the_wire(name, data):
    rpc, hints = RPCS[name], dict(HINTS[name])
    answer_type = hints.pop("return")
    arguments = [data.draw(values(hint)) for hint in hints.values()]
    rpc.arguments.check(arguments)
    sent = rpc.request(header={"now_us": 5}, **rpc.arguments.encode(arguments)).SerializeToString()
    assert rpc.arguments.decode(rpc.request.FromString(sent)) == arguments
    answer = data.draw(values(answer_type))
    sent = rpc.response(header={"sequence": 5}, **rpc.answer.encode(answer)).SerializeToString()
    decoded = rpc.answer.decode(rpc.response.FromString(sent))
    assert decoded == answer
    assert type(decoded) is answer_type


@pytest.mark.parametrize(
    ("rpc", "arguments", "field"),
    [
        ("vmglue.kstack.v1.vm_thread_new", ([ThreadStack(1, 2), ThreadStack(2**63, 1)], 0), "threads[1].tid"),
        ("vmglue.kstack.v1.vm_thread_new", ([], -1), "op"),
        ("vmglue.kstack.v1.vm_thread_new", ([], 1.5), "op"),
        ("vmglue.kstack.v1.vm_thread_new", ([], True), "op"),
        ("vmglue.kstack.v1.vm_thread_new", (7, 0), "threads"),
        ("vmglue.kstack.v1.vm_thread_new", ([PutRun()], 0), "threads[0]"),
        ("vmglue.pager.v1.peek", (1, [2, 2**64]), "pindexes[1]"),
        ("vmglue.pager.v1.put_pages_start", ([PutRun()], "text", False), "data"),
        ("vmglue.pager.v1.vm_pager_has_page", (1, 9, 0), "kind"),
        ("vmglue.physmem.v1.map_ops", (1, [MapOp(kind=MapOpKind.WIRE), MapOp(kind=77)], 0), "ops[1].kind"),
        (
            "vmglue.scheduler.v1.report",
            (1, Outcome(suspension=Suspension(priority=2**31)), Trap(), None, 0),
            "outcome.suspension.priority",
        ),
    ],
)
def test_the_field_that_does_not_fit_is_named(rpc, arguments, field):
    with pytest.raises(Refused) as refused:
        RPCS[rpc].arguments.check(arguments)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_OUT_OF_RANGE, field)


def test_an_enumeration_that_was_not_set_is_refused_by_name():
    rpc = RPCS["vmglue.scheduler.v1.report"]
    request = rpc.request(outcome={"stop": 1}, trap={"regions": []})
    with pytest.raises(Refused) as refused:
        rpc.arguments.decode(request)
    assert refused.value.field == "trap.op"
    rpc = RPCS["vmglue.physmem.v1.map_ops"]
    with pytest.raises(Refused) as refused:
        rpc.arguments.decode(rpc.request(ops=[{"kind": 1}, {"kind": 99}]))
    assert refused.value.field == "ops[1].kind"
    assert refused.value.value == 99


def test_enumerations_are_their_c_values_in_python_and_never_zero_on_the_wire():
    rpc = RPCS["vmglue.scheduler.v1.report"]
    request = rpc.request(**rpc.arguments.encode((1, Outcome(stop=0), Trap(op=TrapOp.EXIT), _no_upcalls(), 0)))
    assert (request.outcome.stop, request.trap.op) == (1, 9)
    outcome, trap = rpc.arguments.decode(request)[1:3]
    assert outcome.stop is Stop.END
    assert trap.op is TrapOp.EXIT


def _no_upcalls():
    from services.ports.common import Upcalls

    return Upcalls()


def test_numpy_integers_are_integers():
    rpc = RPCS["vmglue.pager.v1.vm_pager_has_page"]
    arguments = (np.uint64(2**64 - 1), ObjectKind.SWAP, np.int64(5))
    rpc.arguments.check(arguments)
    assert rpc.arguments.decode(rpc.request(**rpc.arguments.encode(arguments))) == [2**64 - 1, ObjectKind.SWAP, 5]
    with pytest.raises(Refused):
        rpc.arguments.check((np.int64(-1), ObjectKind.SWAP, 0))


def test_an_absent_message_is_none():
    rpc = RPCS["vmglue.physmem.v1.vslock"]
    assert rpc.answer.decode(rpc.response(status=1)).suspension is None
    assert rpc.answer.decode(rpc.response(status=2, suspension={"op": 3})).suspension == Suspension(op=3)
    assert rpc.answer.decode(rpc.response(status=2)).status is Status.SUSPENDED


def test_a_type_without_a_place_in_a_port_is_refused():
    with pytest.raises(TypeError, match="float"):
        Fields({"x": float}, None)


def test_codecs_are_derived_once():
    assert dataclass_codec(Suspension, None) is dataclass_codec(Suspension, None)


def test_a_view_of_bytes_fits_where_bytes_do_and_a_message_has_its_own():
    rpc, view = RPCS["vmglue.physmem.v1.access_kept"], memoryview(b"12345678")
    arguments = (1, "name", view, 0, 1, 5, 0, 0)
    hints = dict(HINTS["vmglue.physmem.v1.access_kept"])
    del hints["return"]
    Fields(hints, None).check(arguments)
    assert rpc.arguments.decode(rpc.request(**rpc.arguments.encode(arguments)))[2] == b"12345678"


@pytest.mark.parametrize(
    "view", [memoryview(bytearray(b"12345678")), memoryview(b"12345678").cast("Q"), memoryview(b"12345678")[::2]]
)
def test_a_view_that_may_change_or_is_not_of_whole_bytes_is_refused(view):
    with pytest.raises(Refused) as refused:
        Fields({"runs": bytes}, None).check((view,))
    assert (refused.value.field, refused.value.expected) == ("runs", "bytes")
