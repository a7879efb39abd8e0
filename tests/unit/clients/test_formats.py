"""What the documents say about traces and system calls is what the code does."""

import re
from pathlib import Path

from clients import trace as fmt
from clients.workload import TRACES
from services.scheduler.syscalls import docs_text

DOCS = Path(__file__).parents[3] / "docs"


def test_the_table_of_system_calls_is_the_codes():
    assert (DOCS / "syscalls.md").read_text(encoding="utf-8") == docs_text()
    cells = {line.count("|") for line in docs_text().splitlines() if line.startswith("|")}
    assert cells == {10}


def test_the_format_describes_every_operation():
    text = (DOCS / "trace-format.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", text, re.MULTILINE))
    assert rows == {str(int(op)): op.name for op in fmt.Op}
    assert f"Schema version: {fmt.SCHEMA_VERSION}." in text


def test_the_formats_reader_runs(capsys, monkeypatch):
    text = (DOCS / "trace-format.md").read_text(encoding="utf-8")
    section = text.split("## Reading one")[1].split("In Python")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    monkeypatch.chdir(DOCS.parent)
    exec(compile(code, "trace-format.md", "exec"), {})  # the document's own example
    header = fmt.read_header(TRACES / "sort.vmtrace")
    assert f"{header.totals.references:,} references to" in capsys.readouterr().out
