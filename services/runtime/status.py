"""The one translator between what a core raises and what stands on the wire: google.rpc.Status with its details."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from services.runtime.errors import Reason, Refused, ServiceFault, ServiceLost

DOMAIN = "vmglue"
"""Domain of every ErrorInfo."""
INTERNAL = "INTERNAL"
"""Reason of an unexpected error; its id is in the service's log."""
_DETAILS = "grpc-status-details-bin"
_ANEW = "load a checkpoint or run the workload anew"
"""What to do about a machine whose memory is gone."""
_ENDED = "it ended or was killed"
_SILENT = "it fell silent: it hangs or is paused, or the network to it is cut"
_UNREACHABLE = "it cannot be reached: it or its network ended"
_CAUSES = (
    ("ping timeout", _SILENT),
    ("keepalive", _SILENT),
    ("Socket closed", _ENDED),
    ("GOAWAY", _ENDED),
    ("reset by peer", _ENDED),
    ("Broken pipe", _ENDED),
    ("refused", _ENDED),
    ("No such file", _ENDED),
    ("hannel closed", "the call was cut off at this end"),
)
"""What gRPC's text about a broken connection says of its other end; the first that fits."""
_NO_RETRY = ("grpc-retry-pushback-ms", "-1")
"""Tells the caller's channel not to retry: the call may have changed state."""


class Quoted(str):
    """A value that came over the wire as its `repr`, so that messages read the same in both wirings."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Abort(NamedTuple):  # grpc.Status is this, by duck typing
    """How a call is ended: the fields of grpc.Status."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def refusal(error: Refused, boot_id: int) -> Abort:
    """The status of a caller's mistake."""
    info = {"field": error.field, "value": repr(error.value), "expected": error.expected, "boot_id": str(boot_id)}
    details: list[Any] = [ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=info)]
    if error.reason is Reason.FIELD_OUT_OF_RANGE:
        violation = BadRequest.FieldViolation(field=error.field, description=f"expected {error.expected}")
        details.append(BadRequest(field_violations=[violation]))
    return _abort(grpc.StatusCode[error.reason.status], str(error), details)


def loss(error: ServiceLost, boot_id: int) -> Abort:
    """The status of a service below that was lost in the middle of a call."""
    about = {"service": error.service, "why": error.why, "boot_id": str(boot_id)}
    info = ErrorInfo(reason=Reason.UNAVAILABLE.name, domain=DOMAIN, metadata=about)
    return _abort(grpc.StatusCode.UNAVAILABLE, str(error), [info])


def internal(error_id: str, boot_id: int) -> Abort:
    """The status of an unexpected error: nothing of it but an id leaves the service."""
    info = ErrorInfo(reason=INTERNAL, domain=DOMAIN, metadata={"error_id": error_id, "boot_id": str(boot_id)})
    return _abort(grpc.StatusCode.INTERNAL, f"internal error {error_id}; the service's log explains it", [info])


def raised(error: grpc.RpcError, service: str, known_boot: int | None) -> Exception:
    """What a caller of `service` raises for an error of the wire.

    Args:
        error: What the stub raised.
        service: Name of the called service.
        known_boot: Boot id from the service's earlier answers.
    """
    code, text = error.code(), error.details() or ""
    info = _error_info(error)
    if info is None:
        return _transport(code, text, service)
    metadata = info.metadata
    if info.reason == INTERNAL:
        return ServiceFault(service, metadata.get("error_id", ""), "internal error")
    if info.reason == Reason.UNAVAILABLE.name:
        return ServiceLost(metadata.get("service", service), metadata.get("why", text))
    if info.reason not in Reason.__members__:
        return ServiceFault(service, "", f"{code.name}: {text}")
    if known_boot is not None and metadata.get("boot_id", str(known_boot)) != str(known_boot):
        return restarted(service, int(metadata["boot_id"]))
    return Refused(
        Reason[info.reason], metadata.get("field", ""), Quoted(metadata.get("value", "")), metadata.get("expected", "")
    )


def restarted(service: str, boot_id: int) -> ServiceLost:
    """A service whose boot id changed under its caller.

    Args:
        service: Its name.
        boot_id: Of the present process: when it started, in nanoseconds since the epoch.
    """
    when = datetime.fromtimestamp(boot_id // 10**9, UTC)
    return ServiceLost(
        service,
        f"{service} restarted at {when:%Y-%m-%d %H:%M:%S} UTC; the machine's memory is gone; {_ANEW}",
    )


def _transport(code: grpc.StatusCode, text: str, service: str) -> Exception:
    """What a status means that no service of ours gave."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _out_of_reach(service, "it did not answer in time: it hangs or is paused")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        cause = next((cause for words, cause in _CAUSES if words in text), _UNREACHABLE)
        return _out_of_reach(service, f"{cause} ({text})")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Refused(Reason.QUOTA, "message", Quoted(text), "a smaller message or fewer calls at once")
    return ServiceFault(service, "", f"{code.name}: {text}")


def _out_of_reach(service: str, cause: str) -> ServiceLost:
    """A service that does not answer: which, why, when that was noticed, and what to do."""
    noticed = datetime.now(UTC)
    return ServiceLost(service, f"{cause}; noticed at {noticed:%Y-%m-%d %H:%M:%S} UTC; when it serves again, {_ANEW}")


def _abort(code: grpc.StatusCode, text: str, details: list[Any]) -> Abort:
    status = Status(code=code.value[0], message=text)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return Abort(code, text, ((_DETAILS, status.SerializeToString()), _NO_RETRY))


def _error_info(error: grpc.RpcError) -> ErrorInfo | None:
    """The ErrorInfo of an error, if it is one of ours."""
    trailing: Any = error.trailing_metadata()
    for key, value in trailing or ():
        if key == _DETAILS:
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return info
    return None
