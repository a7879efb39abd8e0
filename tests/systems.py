"""Systems to test with, in either wiring."""

from __future__ import annotations

import subprocess
import sys
import time

from clients.health import serving
from clients.system import UPSTREAMS, System, SystemConfig

WIRINGS = ("local", "grpc")


def start_system(wiring: str, allow_inject: bool = False) -> System:
    """A system of its own in a wiring."""
    if wiring == "local":
        return System.local(allow_inject)
    return System.start(SystemConfig(allow_inject=allow_inject))


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Fleet:
    """Four services at addresses of their own, each of which can be killed and started again."""

    def __init__(self, directory):
        self.addresses = {name: f"unix:{directory}/{name}.sock" for name in UPSTREAMS}
        self.processes = {}
        for name in UPSTREAMS:
            self.start(name)
        for name in UPSTREAMS:
            self.ready(name)

    def start(self, name):
        command = [sys.executable, "-m", f"services.{name}", "--listen", self.addresses[name], "--die-with-parent"]
        for upstream in UPSTREAMS[name]:
            command += ["--upstream", f"{upstream}={self.addresses[upstream]}"]
        self.processes[name] = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def ready(self, name):
        until(lambda: serving(self.addresses[name], 0.5), 60)

    def restart(self, name):
        self.processes[name].kill()
        self.processes[name].wait()
        self.start(name)
        for other in UPSTREAMS:
            self.ready(other)

    def close(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(10)
