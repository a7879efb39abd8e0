"""Records real programs as traces."""

from clients.capture.record import CaptureSummary, Progress, capture
from clients.capture.resolve import CaptureError, resolve_program

__all__ = ["CaptureError", "CaptureSummary", "Progress", "capture", "resolve_program"]
