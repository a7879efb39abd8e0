"""The catalogue of errors is total, and what stands on the wire becomes the same exception again."""

from __future__ import annotations

import re

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from services.runtime.errors import STATUS, KernelPanic, Reason, Refused, ServiceFault, ServiceLost, kassert
from services.runtime.status import Quoted, internal, loss, raised, refusal


class WireError(grpc.RpcError):
    """What a stub raises for a status."""

    def __init__(self, code, details="", trailing=()):
        self._fields = code, details, trailing

    def code(self):
        return self._fields[0]

    def details(self):
        return self._fields[1]

    def trailing_metadata(self):
        return self._fields[2]


def over_the_wire(abort, known_boot=None):
    return raised(WireError(*abort), "kstack", known_boot)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_status_and_comes_back(reason):
    assert grpc.StatusCode[reason.status] is refusal(Refused(reason, "f", 1, "2"), 7).code
    assert reason.value
    if reason is not Reason.UNAVAILABLE:
        back = over_the_wire(refusal(Refused(reason, "f", "text", "2"), 7), known_boot=7)
        assert isinstance(back, Refused)
        assert (back.reason, back.field, back.expected) == (reason, "f", "2")
        assert str(back) == str(Refused(reason, "f", "text", "2"))


def test_the_table_has_exactly_the_reasons():
    assert set(STATUS) == set(Reason)
    assert len({reason.value for reason in Reason}) == len(Reason)


def test_a_refusal_of_another_life_is_a_loss():
    abort = refusal(Refused(Reason.NOT_BOOTED, "machine", "kstack", "boot"), 8)
    assert isinstance(over_the_wire(abort, known_boot=None), Refused)
    lost = over_the_wire(abort, known_boot=7)
    assert isinstance(lost, ServiceLost)
    assert str(lost) == (
        "kstack was lost: kstack restarted at 1970-01-01 00:00:00 UTC; the machine's memory is gone; load a checkpoint "
        "or run the workload anew"
    )


def test_a_loss_below_names_the_lost_service():
    lost = over_the_wire(loss(ServiceLost("pager", "gone"), 7))
    assert isinstance(lost, ServiceLost)
    assert (lost.service, lost.why) == ("pager", "gone")
    assert ("grpc-retry-pushback-ms", "-1") in loss(lost, 7).trailing_metadata


def test_an_unexpected_error_is_an_id():
    fault = over_the_wire(internal("abc123", 7))
    assert isinstance(fault, ServiceFault)
    assert fault.error_id == "abc123"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, ServiceLost),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ServiceLost),
        (grpc.StatusCode.CANCELLED, ServiceLost),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Refused),
        (grpc.StatusCode.UNIMPLEMENTED, ServiceFault),
        (grpc.StatusCode.UNKNOWN, ServiceFault),
    ],
)
def test_a_status_of_the_transport_has_its_meaning(code, kind):
    assert type(raised(WireError(code, "text"), "pager", None)) is kind


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", "it ended or was killed (Socket closed)"),
        (grpc.StatusCode.UNAVAILABLE, "last error: connect: Connection refused", "it ended or was killed (last error:"),
        (grpc.StatusCode.UNAVAILABLE, "GOAWAY received", "it ended or was killed (GOAWAY"),
        (grpc.StatusCode.UNAVAILABLE, "ping timeout", "it fell silent: it hangs or is paused, or the network to it is"),
        (grpc.StatusCode.UNAVAILABLE, "No route to host", "it cannot be reached: it or its network ended (No route"),
        (grpc.StatusCode.CANCELLED, "Channel closed!", "the call was cut off at this end (Channel closed!)"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "it did not answer in time: it hangs or is paused"),
    ],
)
def test_a_lost_service_is_told_with_its_name_the_cause_the_time_and_what_to_do(code, text, told):
    lost = str(raised(WireError(code, text), "pager", None))
    assert lost.startswith(f"pager was lost: {told}")
    noticed = r"; noticed at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; "
    assert re.search(f"{noticed}when it serves again, load a checkpoint or run the workload anew$", lost)


def test_quoted_values_are_not_quoted_again():
    assert repr(Quoted("'x'")) == "'x'"


def test_kassert_panics_with_function_and_line():
    kassert([1], "never", "f")
    with pytest.raises(KernelPanic) as panic:
        kassert([], "vslock: empty", "vslock", 184)
    assert (panic.value.text, panic.value.function, panic.value.line) == ("vslock: empty", "vslock", 184)


@pytest.mark.parametrize(
    "abort", [refusal(Refused(Reason.QUOTA, "f", 1, "2"), 7), loss(ServiceLost("pager", "gone"), 7), internal("id", 7)]
)
def test_every_error_carries_the_boot_id(abort):
    status = Status.FromString(dict(abort.trailing_metadata)["grpc-status-details-bin"])
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.metadata["boot_id"] == "7"
