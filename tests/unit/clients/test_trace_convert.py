"""Traces of other tools: what comes in, what goes out, and what is said about mistakes."""

import numpy as np
import pytest
from systems import start_system
from typer.testing import CliRunner

from clients.cli.app import app
from clients.run import Run
from clients.trace import Trace, TraceError, run_kinds, run_refs, run_vpn
from clients.trace_convert import ORACLE, Format, export_trace, import_trace
from clients.workload import TRACES, load_workload

LACKEY = """\
==77== Lackey, an example Valgrind tool
I  04001000,3
 L 1ffeffe7e,8
 L 1ffeffe80,8
 S 1ffeffe88,8
 M 05000010,4
"""
LINES = "# a comment\n4001000 R\n5000fff W\n5001000 w\n"


def write(folder, text):
    path = folder / "other.txt"
    path.write_text(text)
    return path


def test_lackey_text_becomes_runs(tmp_path):
    trace = import_trace(write(tmp_path, LACKEY), Format.LACKEY)
    (task,) = trace.tasks
    assert run_vpn(task.runs).tolist() == [0x4001, 0x1FFEFF, 0x5000]
    assert run_kinds(task.runs).tolist() == [4, 3, 3]
    assert run_refs(task.runs).tolist() == [1, 3, 1]
    assert trace.header.totals.references == 5
    covered = {page for r in task.info.regions for page in range(r.start_vpn, r.start_vpn + r.npages)}
    assert {0x4001, 0x1FFEFF, 0x5000} <= covered
    assert len(task.info.regions) == 3


def test_many_references_to_one_page_are_cut(tmp_path):
    trace = import_trace(write(tmp_path, "5000000 R\n" * 10_000 + "6000000 W\n"), Format.LINES)
    assert run_refs(trace.tasks[0].runs).tolist() == [4095, 4095, 1810, 1]
    assert run_kinds(trace.tasks[0].runs).tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        (Format.LACKEY, "I  04001000,3\n X 5000,1\n", r"other\.txt:2: kind 'X': expected one of I, L, S, M"),
        (Format.LACKEY, " L 5000\n", r"other\.txt:1: size '': expected ADDRESS,BYTES"),
        (Format.LACKEY, " L 50zz,1\n", r"other\.txt:1: address '50zz': expected a hexadecimal number"),
        (Format.LINES, "5000 R\n5000 X\n", r"other\.txt:2: kind 'X': expected R or W"),
        (Format.LINES, "12 R\n", r"other\.txt:1: address '12': expected one of 0x1000 to 0x7fffffffffff"),
        (Format.LINES, "# nothing\n", r"other\.txt: no references in it; expected lines"),
        (Format.ORACLE, "short", r"other\.txt: 5 bytes are not whole records of 24"),
    ],
)
def test_mistakes_have_their_place(tmp_path, form, text, says):
    with pytest.raises(TraceError, match=says):
        import_trace(write(tmp_path, text), form)


def test_a_record_without_a_page_is_refused(tmp_path):
    records = np.zeros(3, ORACLE)
    records["object"] = (5, 0, 7)
    records.tofile(tmp_path / "t")
    with pytest.raises(TraceError, match="record 1: object 0: expected a page number"):
        import_trace(tmp_path / "t", Format.ORACLE)


def test_oracle_records_know_their_next_access(tmp_path):
    pages = [5, 6, 5, 7, 6, 5]
    text = "".join(f"{page << 12:x} R\n" for page in pages)
    count = export_trace(import_trace(write(tmp_path, text), Format.LINES), tmp_path / "o", Format.ORACLE)
    records = np.fromfile(tmp_path / "o", ORACLE)
    assert count == len(records) == 6
    assert records["object"].tolist() == pages
    assert records["size"].tolist() == [1] * 6
    assert records["next"].tolist() == [3, 5, 6, -1, -1, -1]
    again = import_trace(tmp_path / "o", Format.ORACLE)
    assert run_vpn(again.tasks[0].runs).tolist() == pages


@pytest.mark.parametrize("form", [Format.LACKEY, Format.LINES])
def test_text_goes_out_and_comes_in(tmp_path, form):
    first = import_trace(write(tmp_path, LACKEY), Format.LACKEY)
    export_trace(first, tmp_path / "out", form)
    again = import_trace(tmp_path / "out", form)
    assert run_vpn(again.tasks[0].runs).tolist() == run_vpn(first.tasks[0].runs).tolist()
    stores = run_kinds(first.tasks[0].runs) & 2
    assert (run_kinds(again.tasks[0].runs) & 2).tolist() == stores.tolist()


def test_the_next_accesses_of_a_captured_program(tmp_path):
    trace = Trace.open(TRACES / "find.vmtrace")
    export_trace(trace, tmp_path / "o", Format.ORACLE)
    records = np.fromfile(tmp_path / "o", ORACLE)
    later = records["next"] > 0
    positions = np.flatnonzero(later)[:1000]
    assert (records["object"][records["next"][positions] - 1] == records["object"][positions]).all()
    assert np.count_nonzero(~later) == len(np.unique(records["object"]))


def test_the_command_converts_and_the_result_runs(tmp_path):
    source, target = write(tmp_path, LINES * 50), tmp_path / "lines.vmtrace"
    done = CliRunner().invoke(app, ["trace", "convert", "--from", "lines", str(source), str(target)])
    assert done.exit_code == 0, done.output
    assert "150 references" in done.output
    (tmp_path / "w.toml").write_text('[[programs]]\ntrace = "lines.vmtrace"\n')
    with start_system("local") as system:
        run = Run(system.kernel, load_workload(str(tmp_path / "w.toml")), check=True)
        run.boot()
        report = run.report(run.execute())
    assert report["complete"]
    assert report["references"] == 150
    assert report["integrity"] == {"pages_checked": 3, "mismatches": 0, "first": [], "torn": 0}
