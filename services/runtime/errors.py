"""The catalogue of errors: what a core raises, and the gRPC status that a caller sees."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Every reason for which a call is refused; the value is its public text."""

    FIELD_OUT_OF_RANGE = "a field holds what its C type cannot, or contradicts another"
    UNKNOWN_ID = "no such process, thread, stack, address space, object or operation"
    UNKNOWN_SYSCTL = "no such sysctl, or it is read-only"
    NOT_BOOTED = "the service was not booted"
    MACHINE_STOPPED = "the machine stopped; its state stays to be inspected"
    INJECTION_REFUSED = "the system was not started to allow scripted answers"
    NO_ROLE = "the certificate names no role"
    ROLE = "the certificate's role does not permit it"
    QUOTA = "a limit of the service"
    NOT_BUILT = "the kernel was built without it"
    UNAVAILABLE = "a service below cannot be reached"

    @property
    def status(self) -> str:
        """Name of the gRPC status code."""
        return STATUS[self]


STATUS = {
    Reason.FIELD_OUT_OF_RANGE: "INVALID_ARGUMENT",
    Reason.UNKNOWN_ID: "NOT_FOUND",
    Reason.UNKNOWN_SYSCTL: "NOT_FOUND",
    Reason.NOT_BOOTED: "FAILED_PRECONDITION",
    Reason.MACHINE_STOPPED: "FAILED_PRECONDITION",
    Reason.INJECTION_REFUSED: "PERMISSION_DENIED",
    Reason.NO_ROLE: "UNAUTHENTICATED",
    Reason.ROLE: "PERMISSION_DENIED",
    Reason.QUOTA: "RESOURCE_EXHAUSTED",
    Reason.NOT_BUILT: "FAILED_PRECONDITION",
    Reason.UNAVAILABLE: "UNAVAILABLE",
}
"""Name of the gRPC status code of each reason."""


class Refused(Exception):
    """A caller's mistake: nothing was changed.

    Attributes:
        reason: Entry of the catalogue.
        field: Name of the request's field.
        value: What it held.
        expected: What would be right.
    """

    def __init__(self, reason: Reason, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: {value!r} is refused ({reason.name.lower()}); expected {expected}")
        self.reason, self.field, self.value, self.expected = reason, field, value, expected


class ServiceLost(Exception):
    """A service cannot be reached any more, or lost its memory: the machine is gone.

    Attributes:
        service: Its name.
        why: What happened.
    """

    def __init__(self, service: str, why: str) -> None:
        super().__init__(f"{service} was lost: {why}")
        self.service, self.why = service, why


class ServiceFault(Exception):
    """A defect of a service: an unexpected error, which its log explains under an id.

    Attributes:
        service: Its name.
        error_id: What to look for in its log; empty if the service gave none.
    """

    def __init__(self, service: str, error_id: str, text: str) -> None:
        super().__init__(f"{service} failed: {text}" + (f" (error {error_id} in its log)" if error_id else ""))
        self.service, self.error_id, self.text = service, error_id, text


class KernelPanic(Exception):
    """panic() or a failed KASSERT of the C code: it stops the machine.

    Attributes:
        text: The panic's text.
        function: C function.
        line: Line of vm_glue.c, or 0 for code around it.
    """

    def __init__(self, text: str, function: str, line: int = 0) -> None:
        super().__init__(text)
        self.text, self.function, self.line = text, function, line


def kassert(condition: object, text: str, function: str, line: int = 0) -> None:
    """Panic unless the condition holds, with or without INVARIANTS, by which `Context.kassert` goes.

    Raises:
        KernelPanic: The condition does not hold.
    """
    if not condition:
        raise KernelPanic(text, function, line)
