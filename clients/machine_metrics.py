"""Prometheus metrics of the machine that the orchestrator keeps, beside those that every process of ours has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from clients.machine import Machine, state_word
from protos.machine_pb2 import MachineState as State


class MachineCollector:
    """Reads how far the machine has come at the moment of a scrape; asks no service."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def collect(self) -> Iterator[Any]:
        """The metrics."""
        machine, progress = self._machine, self._machine.progress
        states = GaugeMetricFamily("vmglue_machine_state", "1: the state of the machine.", labels=["state"])
        for state in State.values():
            if state != State.MACHINE_STATE_UNSPECIFIED:
                states.add_metric([state_word(state)], float(machine.state == state))
        yield states
        now_us = progress.now_us if progress is not None else 0
        yield GaugeMetricFamily("vmglue_machine_virtual_seconds", "Virtual time of the machine.", value=now_us / 1e6)
        for name, text in (
            ("references", "Memory references executed by the loaded machine."),
            ("dispatches", "Slices given to its processor."),
            ("rpcs", "Calls made to the services for it."),
        ):
            value = getattr(progress, name) if progress is not None else 0
            yield CounterMetricFamily(f"vmglue_machine_{name}", text, value=value)
