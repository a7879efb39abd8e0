"""Settings that make calls cheap: they are in force in a fresh process, and a user's own are left alone."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from grpc._cython import cygrpc

import clients
import services
from services.runtime.process import keep_freed_memory, pss_bytes

SHOW = "import clients, os, sys; print('grpc' in sys.modules, os.environ.get('GRPC_EXPERIMENTS', ''))"


def shown(**environment):
    kept = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    done = subprocess.run([sys.executable, "-c", SHOW], env=kept | environment, capture_output=True, check=True)
    return done.stdout.decode().split()


@pytest.mark.skipif(not version("grpcio").startswith("1.85."), reason="other versions keep their own settings")
def test_grpc_is_told_to_poll_in_the_caller_before_it_is_imported():
    imported, experiments = shown()
    assert imported == "False"
    assert "-event_engine_client" in experiments.split(",")


def test_experiments_that_the_user_chose_stand():
    assert shown(GRPC_EXPERIMENTS="tcp_rcv_lowat") == ["False", "tcp_rcv_lowat"]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these parameters")
def test_freed_memory_is_kept_for_the_next_large_message():
    keep_freed_memory()
    block = bytearray(b"x") * (8 << 20)
    held = pss_bytes()
    del block
    assert pss_bytes() > held - (4 << 20)


SPARSE = """
import sys
import services.runtime
assert "numpy" not in sys.modules
import numpy as np
from services.runtime.process import pss_bytes
held = np.zeros(64 << 20, np.uint8)
before = pss_bytes()
held[:: 2 << 20] = 1
print(pss_bytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other hosts do not tell how much memory a process holds")
def test_arrays_take_the_memory_that_is_touched():
    kept = {name: value for name, value in os.environ.items() if name != "NUMPY_MADVISE_HUGEPAGE"}
    done = subprocess.run([sys.executable, "-c", SPARSE], env=kept, capture_output=True, check=True)
    assert 0 < int(done.stdout) < 4 << 20


def test_every_option_of_a_channel_or_server_is_one_that_grpc_knows():
    """It ignores others without a word."""
    library = Path(cygrpc.__file__).read_bytes()
    sources = [path for package in (services, clients) for path in Path(package.__path__[0]).rglob("*.py")]
    options = {name for path in sources for name in re.findall(r'\("(grpc\.[a-z0-9_.]+)", ', path.read_text())}
    assert len(options) > 10
    assert [name for name in sorted(options) if name.encode() not in library] == []
