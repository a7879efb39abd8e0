"""What `vmglue status` shows of suspended operations."""

import io

from rich.console import Console

from clients.status_view import print_status, status_dict
from protos import common_pb2
from protos import machine_pb2 as pb


def shown(found) -> str:
    out = io.StringIO()
    print_status(found, Console(file=out, width=200))
    return out.getvalue()


def answer(rows: int, total: int, **fields) -> pb.GetStatusResponse:
    row = common_pb2.SuspendedOperation(op=7, function="vm_thread_swapin (vm_glue.c:569-606)", **fields)
    return pb.GetStatusResponse(suspended=[pb.SuspendedWork(service="physmem", operations=[row] * rows, total=total)])


def test_a_suspended_operation_is_a_row():
    fields = {"subject": "process 9", "channel": "page:12", "wmesg": "swread", "since_us": 5_000_000}
    found = status_dict(pb.GetTopologyResponse(), answer(1, 1, until_us=25_000_000, **fields))
    (work,) = found["suspended"]
    assert work["operations"][0]["waits_for"] == "page frame 12"
    text = shown(found)
    for part in ("vm_thread_swapin (vm_glue.c:569-606)", "process 9", "page frame 12", "swread", "5.0", "25.0"):
        assert part in text
    assert "more" not in text


def test_a_sleep_for_memory_ends_by_a_wakeup_and_long_lists_are_cut():
    text = shown(status_dict(pb.GetTopologyResponse(), answer(60, 130, channel="v_free_count")))
    assert "free pages" in text
    assert "a wakeup" in text
    assert "and 110 more" in text


def test_swap_devices_are_rows():
    rows = [
        pb.SwapDevice(kind="hdd", pages=4096, used=1000, closing=True),
        pb.SwapDevice(device=2, kind="nvme", pages=64),
    ]
    found = status_dict(pb.GetTopologyResponse(), pb.GetStatusResponse(swap_devices=rows))
    assert found["swap_devices"][0] == {"device": 0, "kind": "hdd", "pages": 4096, "used": 1000, "closing": True}
    text = shown(found)
    for part in ("hdd", "4,096", "1,000", "closing", "nvme"):
        assert part in text
    assert text.count("closing") == 1
