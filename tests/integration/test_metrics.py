"""Metrics as a scraper reads them: calls, errors, latency, counters by sysctl name; over TLS where it is asked for."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
import urllib.error
import urllib.request

import pytest
from certificates import files, tls

from services.ports.pager import PagerBoot, PagerPort, SwapDisk
from services.runtime.config import Exit
from services.runtime.context import Context
from services.runtime.errors import Refused
from services.runtime.limits import SCRAPE_S, SCRAPERS_MAX
from services.runtime.remote import Caller, connect


def scrape(address, context=None):
    scheme = "https" if context else "http"
    with urllib.request.urlopen(f"{scheme}://{address}/metrics", timeout=5, context=context) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.M)}


def test_calls_counters_and_size(start, free_ports):
    address = f"127.0.0.1:{free_ports(1)[0]}"
    service = start("--metrics", address).wait()
    pager = connect(PagerPort, service.channel, Caller(Context("orchestrator"), "m"))
    pager.boot(PagerBoot(swap_devices=[SwapDisk(100)], page_count=1000))
    for _ in range(3):
        pager.swap_status()
    with pytest.raises(Refused):
        pager.boot(PagerBoot(swap_devices=[SwapDisk(2)], page_count=1000))
    found = scrape(address)
    assert found['vmglue_rpcs_total{code="OK",rpc="SwapStatus",service="pager"}'] == 3
    assert found['vmglue_rpcs_total{code="INVALID_ARGUMENT",rpc="Boot",service="pager"}'] == 1
    assert found['vmglue_rpc_seconds_count{rpc="SwapStatus",service="pager"}'] == 3
    assert 0 < found['vmglue_rpc_seconds_sum{rpc="SwapStatus",service="pager"}'] < 1
    assert found['vmglue_rpcs_in_flight{service="pager"}'] == 0
    assert found['vmglue_serving{service="pager"}'] == 1
    assert found['vmglue_process_pss_bytes{service="pager"}'] > 1 << 20
    values = pager.counters()
    assert values.names
    for name, value in zip(values.names, values.values, strict=True):
        assert found[f'vmglue_sysctl{{name="{name}",service="pager"}}'] == value


def test_with_certificates_a_scraper_needs_one(start, free_ports):
    address = f"localhost:{free_ports(1)[0]}"
    start("--metrics", address, *files("pager")).wait()
    believed = ssl.create_default_context(cafile=str(tls("viewer").ca))
    with pytest.raises((urllib.error.URLError, ConnectionError, ssl.SSLError)):
        scrape(address, believed)
    believed.load_cert_chain(tls("viewer").cert, tls("viewer").key)
    assert scrape(address, believed)['vmglue_serving{service="pager"}'] == 1


@pytest.mark.parametrize("encrypted", [False, True])
def test_who_connects_and_is_silent_holds_up_nobody(start, free_ports, encrypted):
    port = free_ports(1)[0]
    start("--metrics", f"localhost:{port}", *(files("pager") if encrypted else ())).wait()
    context = ssl.create_default_context(cafile=str(tls("viewer").ca)) if encrypted else None
    if context is not None:
        context.load_cert_chain(tls("viewer").cert, tls("viewer").key)
    with contextlib.ExitStack() as stack:

        def connected():
            return stack.enter_context(socket.create_connection(("localhost", port), 5))

        silent = [connected() for _ in range(SCRAPERS_MAX - 1)]
        assert scrape(f"localhost:{port}", context)['vmglue_serving{service="pager"}'] == 1
        time.sleep(0.5)  # the scraper has left its place
        silent.append(connected())
        assert connected().recv(1) == b""  # at once, for there are as many as there may be
        began = time.monotonic()
        silent[0].settimeout(2 * SCRAPE_S)
        with contextlib.suppress(ConnectionError):
            assert silent[0].recv(1) == b""
        assert time.monotonic() - began < SCRAPE_S + 2
        assert scrape(f"localhost:{port}", context)['vmglue_serving{service="pager"}'] == 1


def test_an_address_that_is_taken(start, free_ports):
    address = f"127.0.0.1:{free_ports(1)[0]}"
    start("--metrics", address, name="first").wait()
    service = start("--metrics", address, name="second")
    assert service.process.wait(10) == Exit.CANNOT_LISTEN
    assert f"--metrics {address}" in service.process.stderr.read()
