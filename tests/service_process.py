"""A service process that a test starts, asks and ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.remote import open_channel


class Service:
    """A service process and a channel to it."""

    def __init__(self, directory, *arguments, command=("-m", "services.pager"), name="service"):
        self.address = f"unix:{directory}/{name}.sock"
        self.process = subprocess.Popen(
            [sys.executable, *command, "--listen", self.address, "--machine", "m", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.channel = open_channel(self.address)

    def health(self, name=""):
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10, wait_for_ready=True)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def wait(self, status="SERVING"):
        deadline = time.monotonic() + 20
        while self.health() != status:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(10)
        return status, self.process.stderr.read()

    def close(self):
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
