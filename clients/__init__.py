"""Clients of the machine: orchestrator, command line, capture, workloads, reports and conformance."""
