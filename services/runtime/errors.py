"""The catalogue of errors: what a core raises, and the gRPC status that a caller sees."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Every reason for which a call is refused; the value is the gRPC status code's name."""

    FIELD_OUT_OF_RANGE = "INVALID_ARGUMENT"
    """A field holds what its C type cannot, or contradicts another."""
    UNKNOWN_ID = "NOT_FOUND"
    """No such process, thread, stack, address space, object or operation."""
    UNKNOWN_SYSCTL = "NOT_FOUND_SYSCTL"
    """No such sysctl, or it is read-only."""
    NOT_BOOTED = "FAILED_PRECONDITION_BOOT"
    """The service was not booted."""
    MACHINE_STOPPED = "FAILED_PRECONDITION"
    """The kernel panicked; the state stays to be inspected."""
    INJECTION_REFUSED = "PERMISSION_DENIED"
    """The system was not started to allow scripted answers."""
    QUOTA = "RESOURCE_EXHAUSTED"
    """A limit of the service."""
    UNAVAILABLE = "UNAVAILABLE"
    """A service below cannot be reached."""

    @property
    def status(self) -> str:
        """Name of the gRPC status code."""
        return {
            "NOT_FOUND_SYSCTL": "NOT_FOUND",
            "FAILED_PRECONDITION_BOOT": "FAILED_PRECONDITION",
        }.get(self.value, self.value)


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
    """KASSERT(9): panic unless the condition holds.

    Raises:
        KernelPanic: The condition does not hold.
    """
    if not condition:
        raise KernelPanic(text, function, line)
