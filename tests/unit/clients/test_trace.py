"""The trace format: packing, round trip, and that a file that is not a trace is refused in one line."""

import json
import resource
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import trace as fmt
from clients.trace import File, Header, Image, Op, Region, TaskInfo, TaskTrace, Totals, Trace, TraceError, TraceTooLarge
from clients.workload import TRACES


def task(index, runs, ops, **info):
    described = TaskInfo(**{"index": index, "parent": index - 1, "name": f"t{index}", "regions": (), **info})
    return TaskTrace(described, np.array(runs, np.uint64), np.array(ops, fmt.OP_DTYPE))


def small_trace():
    image = Region(4, 2, 5, "image", 0, 1)
    tasks = (
        task(
            0,
            [fmt.pack_run(4, fmt.KIND_EXEC, 3, 3), fmt.pack_run(0, 0, 1, 600), fmt.pack_run(9, fmt.KIND_STORE, 1, 0)],
            [(0, Op.MMAP, 9, 1, 3 | fmt.MAP_ANON, 0), (2, Op.FORK, 1, 0, 0, 0), (3, Op.EXIT, 0, 0, 0, 0)],
            regions=(image,),
        ),
        task(1, [], [(0, Op.EXEC, 0, 0, 0, 0), (0, Op.EXIT, 256, 0, 0, 0)], execs=(Image("other", (image,)),)),
    )
    header = Header(
        command=("t0", "-x"),
        remake="vmglue capture -o t.vmtrace -- t0 -x",
        truncated=False,
        tasks=tuple(t.info for t in tasks),
        files=(File(0, "t0", 7),),
        totals=Totals(references=4, records=3, instructions=3, operations=5),
    )
    return Trace(header, tasks)


@given(st.integers(0, fmt.VPN_MAX), st.integers(0, 7), st.integers(0, fmt.COUNT_MAX), st.integers(0, fmt.COUNT_MAX))
def test_a_record_is_unpacked_as_it_was_packed(vpn, kinds, refs, instrs):
    runs = np.array([fmt.pack_run(vpn, kinds, refs, instrs)], np.uint64)
    unpacked = fmt.run_vpn(runs), fmt.run_kinds(runs), fmt.run_refs(runs), fmt.run_instrs(runs)
    assert [int(column[0]) for column in unpacked] == [vpn, kinds, refs, instrs]


@pytest.mark.parametrize("row_runs", [1, 2, 3, 1 << 24])
def test_a_trace_is_read_as_it_was_written(tmp_path, monkeypatch, row_runs):
    monkeypatch.setattr(fmt, "ROW_RUNS_MAX", row_runs)
    path, trace = tmp_path / "t.vmtrace", small_trace()
    trace.save(path)
    again = Trace.open(path)
    assert again.header == trace.header == fmt.read_header(path)
    for before, after in zip(trace.tasks, again.tasks, strict=True):
        assert np.array_equal(before.runs, after.runs)
        assert np.array_equal(before.ops, after.ops)
    assert [p.name for p in tmp_path.iterdir()] == ["t.vmtrace"]


def test_segments_put_runs_between_the_operations():
    segments = [(len(runs), int(op["op"])) for runs, op in small_trace().tasks[0].segments()]
    assert segments == [(0, Op.MMAP), (2, Op.FORK), (1, Op.EXIT)]
    rest = task(0, [1, 2, 3], [(1, Op.BRK, 4, 0, 0, 0)])
    assert [(len(runs), op is None) for runs, op in rest.segments()] == [(1, False), (2, True)]


def rewritten(path, **changes):
    """Write the small trace with its header changed."""
    small_trace().save(path)
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[fmt.METADATA_KEY]) | changes
    pq.write_table(table.replace_schema_metadata({fmt.METADATA_KEY: json.dumps(header)}), path)


def test_another_schema_version_is_refused(tmp_path):
    path = tmp_path / "t.vmtrace"
    rewritten(path, schema_version=2)
    with pytest.raises(TraceError, match=r"t\.vmtrace: trace schema version 2, this program reads 1"):
        Trace.open(path)


def test_a_damaged_header_is_refused(tmp_path):
    path = tmp_path / "t.vmtrace"
    rewritten(path, files=[{"id": 0}])
    with pytest.raises(TraceError, match="damaged header: TypeError"):
        Trace.open(path)


def test_what_is_no_trace_is_refused(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(TraceError, match="x: cannot be read as a trace"):
        Trace.open(path)
    path.write_text("text")
    with pytest.raises(TraceError, match="x: cannot be read as a trace"):
        Trace.open(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(TraceError, match="is Parquet but not a vmglue trace"):
        Trace.open(path)


@pytest.mark.parametrize("tasks", [[1, 0], [0, 2]], ids=["unsorted", "not in the header"])
def test_rows_of_tasks_out_of_place_are_refused(tmp_path, tasks):
    path = tmp_path / "t.vmtrace"
    small_trace().save(path)
    table = pq.read_table(path)
    task_column = [tasks[0]] * 3 + [tasks[1]] * (table.num_rows - 3)
    pq.write_table(table.set_column(0, "task", pa.array(task_column, pa.uint16())), path)
    with pytest.raises(TraceError, match="rows are not sorted by task"):
        Trace.open(path)


def test_runs_that_are_not_whole_records_are_refused(tmp_path):
    path = tmp_path / "t.vmtrace"
    small_trace().save(path)
    table = pq.read_table(path)
    cells = [b"1234567", *table["runs"].to_pylist()[1:]]
    pq.write_table(table.set_column(1, "runs", pa.array(cells, pa.large_binary())), path)
    with pytest.raises(TraceError, match="not whole records of 8 bytes"):
        Trace.open(path)


def test_a_writer_of_plain_binary_in_several_row_groups_is_understood(tmp_path):
    path = tmp_path / "t.vmtrace"
    small_trace().save(path)
    table = pq.read_table(path)
    plain = table.set_column(1, "runs", table["runs"].cast(pa.binary()))
    pq.write_table(plain, path, row_group_size=2)
    for before, after in zip(small_trace().tasks, Trace.open(path).tasks, strict=True):
        assert np.array_equal(before.runs, after.runs)
        assert np.array_equal(before.ops, after.ops)


def test_runs_behind_the_last_operation_are_kept(tmp_path):
    only = task(0, [1, 2, 3], [(1, Op.BRK, 4, 0, 0, 0)])
    header = replace(small_trace().header, tasks=(only.info,))
    Trace(header, (only,)).save(tmp_path / "t.vmtrace")
    (again,) = Trace.open(tmp_path / "t.vmtrace").tasks
    assert again.runs.tolist() == [1, 2, 3]
    assert np.array_equal(again.ops, only.ops)


def test_a_column_of_another_type_is_refused(tmp_path):
    path = tmp_path / "t.vmtrace"
    small_trace().save(path)
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, "op", table["op"].cast(pa.int64())), path)
    with pytest.raises(TraceError, match="column 'op' is int64, expected uint8"):
        Trace.open(path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((0, len(Op), 0, 0, 0, 0), "kind of operation is out of range"),
        ((0, Op.THR_NEW, 2, 0, 0, 0), "a thread's task is out of range"),
        ((0, Op.THR_JOIN, -1, 0, 0, 0), "a thread's task is out of range"),
        ((0, Op.FORK, 2, 0, 0, 0), "FORK's task is out of range"),
        ((0, Op.EXEC, 0, 0, 0, 0), "EXEC's image is out of range"),
        ((0, Op.MMAP, 1, 1, fmt.MAP_FILE, 1 << 32), "MMAP's file is out of range"),
    ],
)
def test_operations_that_point_nowhere_are_refused(tmp_path, row, says):
    trace = small_trace()
    broken = replace(trace.tasks[0], ops=np.array([row], fmt.OP_DTYPE))
    Trace(trace.header, (broken, trace.tasks[1])).save(tmp_path / "t.vmtrace")
    with pytest.raises(TraceError, match=f"task 0: {says}"):
        Trace.open(tmp_path / "t.vmtrace")


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.vmtrace")), ids=lambda path: path.stem)
def test_shipped_traces_are_consistent_and_tell_nothing_of_their_machine(path):
    trace = Trace.open(path)
    header = trace.header
    assert not header.truncated
    assert header.remake.startswith(f"vmglue capture -o {path.name} -- ")
    names = [f.name for f in header.files] + [t.name for t in header.tasks] + list(header.command)
    assert not [n for n in names if "/" in n and " " not in n]
    assert header.totals.records == sum(len(t.runs) for t in trace.tasks)
    assert header.totals.operations == sum(len(t.ops) for t in trace.tasks)
    memory = [t.runs[fmt.run_kinds(t.runs) != 0] for t in trace.tasks]
    assert header.totals.references == sum(int(fmt.run_refs(runs).sum()) for runs in memory)
    assert all(t.ops["pos"][-1] == len(t.runs) for t in trace.tasks)
    assert all(t.ops["op"][-1] in (Op.EXIT, Op.THR_EXIT) for t in trace.tasks)


def test_shipped_traces_are_small():
    sizes = [path.stat().st_size for path in TRACES.glob("*.vmtrace")]
    assert len(sizes) >= 3
    assert sum(sizes) < 5_000_000


def packed_zeros(path, mebibytes):
    """A trace whose one task has that many bytes of equal records: a few kilobytes of file."""
    runs = np.zeros(mebibytes << 17, np.uint64)
    only = replace(task(0, [], [(0, Op.EXIT, 0, 0, 0, 0)]), runs=runs)
    fmt.write_trace(path, replace(small_trace().header, tasks=(only.info,)), (only,))
    assert path.stat().st_size < mebibytes << 10


def test_a_trace_that_says_that_it_is_too_large_is_refused(tmp_path, monkeypatch):
    packed_zeros(tmp_path / "zeros", 64)
    monkeypatch.setattr(fmt, "memory_left", lambda: 100 << 20)
    with pytest.raises(TraceTooLarge, match=r"zeros: holds 671\d{5} bytes, and .* permits 34952533"):
        Trace.open(tmp_path / "zeros")


def varint(number, length):
    """A number as Thrift writes it, in more bytes than it needs."""
    bits = number << 1
    return bytes((bits >> 7 * at & 0x7F) | (0x80 if at < length - 1 else 0) for at in range(length))


def test_a_trace_that_holds_more_than_it_says_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb"
    packed_zeros(path, 96)
    with pq.ParquetFile(path) as file:
        claimed = file.metadata.row_group(0).total_byte_size
    content = path.read_bytes()
    assert content.count(varint(claimed, 4)) == 1
    path.write_bytes(content.replace(varint(claimed, 4), varint(1000, 4)))
    monkeypatch.setattr(fmt, "_OTHERS_BYTES", 16 << 20)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(TraceTooLarge, match="bomb: holds more than the 1000 bytes that it claims"):
        Trace.open(path)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    monkeypatch.undo()
    assert len(Trace.open(path).tasks[0].runs) == 96 << 17  # there was the memory for it
