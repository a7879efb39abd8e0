"""Clients of the machine: orchestrator, command line, capture, workloads, reports and conformance."""

import services.runtime  # noqa: F401 - its settings of gRPC count only if they are made before gRPC is imported
