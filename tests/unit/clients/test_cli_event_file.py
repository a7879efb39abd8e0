import pytest

from clients.event_file import MAGIC, EventRecorder, read_about, read_events
from clients.exits import BadInput
from services.ports.common import EventChunk
from services.runtime.events import EventLog, Kind


class LoggingPort:
    """A service as far as events go."""

    def __init__(self, log: EventLog) -> None:
        self.log = log

    def events(self, since: int, limit: int) -> EventChunk:
        first, records = self.log.since(since, limit)
        return EventChunk(records, first, self.log.count)


class LoggingKernel:
    def __init__(self) -> None:
        self.logs = {name: EventLog(name, keep=100) for name in ("pager", "physmem", "kstack", "scheduler")}

    def ports(self):
        return {name: LoggingPort(log) for name, log in self.logs.items()}


def test_events_come_back_in_order_of_time(tmp_path):
    kernel, path = LoggingKernel(), tmp_path / "events"
    with EventRecorder(path, {"workload": "tiny", "seed": 1}) as recorder:
        kernel.logs["scheduler"].add(10, Kind.SWAPOUT, 7, a=55)
        kernel.logs["physmem"].add(5, Kind.FAULT_MAJOR, 3, b=2)
        recorder.collect(kernel)
        kernel.logs["scheduler"].add(20, Kind.SWAPPER_PICK, 7)
        kernel.logs["pager"].add(15, Kind.SWAP_READ, 1)
        recorder.collect(kernel)
        recorder.collect(kernel)
    found = list(read_events(path))
    assert [(e.event.time_us, e.service) for e in found] == [
        (5, "physmem"),
        (10, "scheduler"),
        (15, "pager"),
        (20, "scheduler"),
    ]
    assert recorder.dropped == 0
    assert read_about(path) == {"workload": "tiny", "seed": 1}


def test_an_event_names_its_function_its_line_and_its_integers(tmp_path):
    kernel, path = LoggingKernel(), tmp_path / "events"
    kernel.logs["scheduler"].add(1_500_000, Kind.SWAPOUT, 7, a=55, b=9)
    with EventRecorder(path, {}) as recorder:
        recorder.collect(kernel)
    (event,) = read_events(path)
    line = str(event)
    assert "1.500000 scheduler" in line
    assert f"swapout vm_glue.c:{Kind.SWAPOUT.line}" in line
    assert "pid=7 resident=55 swtick=9" in line
    assert event.function == "swapout"


def test_a_skip_names_the_line_of_the_check_that_failed(tmp_path):
    kernel, path = LoggingKernel(), tmp_path / "events"
    kernel.logs["scheduler"].add(5, Kind.SWAPOUT_SKIP, 7, outcome=883)
    with EventRecorder(path, {}) as recorder:
        recorder.collect(kernel)
    (event,) = read_events(path)
    assert "swapout_procs vm_glue.c:883" in str(event)
    assert "outcome" not in str(event)


def test_what_the_service_gave_up_is_counted(tmp_path):
    kernel = LoggingKernel()
    for t in range(300):
        kernel.logs["kstack"].add(t, Kind.KSTACK_NEW, t)
    with EventRecorder(tmp_path / "events", {}) as recorder:
        recorder.collect(kernel)
    found = list(read_events(tmp_path / "events"))
    assert len(found) + recorder.dropped == 300
    assert recorder.dropped > 0
    assert found[-1].event.sequence == 299


def test_a_file_that_is_still_written_can_be_read(tmp_path):
    kernel = LoggingKernel()
    kernel.logs["kstack"].add(1, Kind.KSTACK_NEW, 1)
    recorder = EventRecorder(tmp_path / "events", {})
    recorder.collect(kernel)
    recorder._file.flush()
    assert len(list(read_events(tmp_path / "events"))) == 1
    recorder.close()


@pytest.mark.parametrize(
    "content", [b"", b"PAR1....", MAGIC + b"{}\n" + b"\x00" * 7, MAGIC + b"{}\n" + b"\x00" * 4 + b"\xff" * 20]
)
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        list(read_events(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        list(read_events(tmp_path / "nothing"))
