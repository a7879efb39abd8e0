"""Case files are read strictly: a malformed one is refused by file, line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clients.conform.cases import Malformed, find_files, read_cases

CASES = Path(__file__).parent


def case_of(family: str, /, **changes) -> dict:
    with (CASES / f"{family}.jsonl").open() as lines:
        return {**json.loads(next(lines)), **changes}


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_all_public_files_are_read():
    counts = {path.stem: len(read_cases(path)) for path in find_files([CASES])}
    assert len(counts) == 8
    assert set(counts.values()) == {220}


def test_defaults_are_filled_in(tmp_path):
    given = {"processes": [{"name": "p1", "threads": [{"name": "t1"}]}, {"name": "p2", "vmspace": None}]}
    (case,) = read_cases(write(tmp_path, case_of("A_swapout_procs", given=given)))
    first, second = case.given["processes"]
    assert (first["pid"], second["pid"]) == (101, 102)
    assert (first["vmspace"], second["vmspace"]) == ("vm-p1", None)
    assert first["threads"][0]["flags"] == ["CANSWAP", "INMEM"]
    assert case.given["tunables"]["kstack_cache_size"] == 128
    assert case.given["clock"] == {"ticks": 0, "hz": 1000}


C = "C_kernel_stacks"
D = "D_access_and_wiring"
NEW = {"call": "vm_thread_new", "thread": "t1"}
CHECK = {"call": "kernacc", "addr": "0x1000", "len": 1, "prot": "r"}
ENTRY = {"start": "0x1000", "end": "0x3000"}


@pytest.mark.parametrize(
    ("case", "field"),
    [
        ({"id": 7}, "id"),
        ({"family": "C_stacks"}, "family"),
        ({"extra": 1}, "extra"),
        ({"given": {"kva_fails": [1]}}, "given.kva_fails"),
        ({"given": {"kva_fail": [0]}}, "given.kva_fail[0]"),
        ({"given": {"build": {"kstack_pages": True}}}, "given.build.kstack_pages"),
        ({"given": {"clock": {"ticks": 1 << 31}}}, "given.clock.ticks"),
        ({"given": []}, "given"),
        ({"given": {"user_map": {}}}, "given.user_map"),
        ({"when": {}}, "when"),
        ({"when": [{**NEW, "pages": "4"}]}, "when[0].pages"),
        ({"when": [{**NEW, "page": 4}]}, "when[0].page"),
        ({"when": [{"call": "vm_thread_new"}]}, "when[0].thread"),
        ({"when": [{"thread": "t1"}]}, "when[0].call"),
        ({"when": [{"call": "faultin", "proc": "p1"}]}, "when[0].call"),
        ({"when": [NEW, NEW]}, "then.steps"),
        ({"then": {"steps": []}}, "then.final"),
        ({"then": {"steps": [1], "final": {}}}, "then.steps[0]"),
    ],
)
def test_malformed_field_is_named(tmp_path, case, field):
    path = write(tmp_path, case_of(C), case_of(C, **{"id": "C-x", **case}))
    with pytest.raises(Malformed) as refused:
        read_cases(path)
    assert (refused.value.line, refused.value.field) == (2, field)
    assert str(refused.value).startswith(f"{path}:2: {field}: ")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"when": [{**CHECK, "addr": "0x01000"}]}, "when[0].addr"),
        ({"when": [{**CHECK, "addr": "0xABC"}]}, "when[0].addr"),
        ({"when": [{**CHECK, "addr": 4096}]}, "when[0].addr"),
        ({"when": [{**CHECK, "prot": "rz"}]}, "when[0].prot"),
        ({"given": {"kernel_map": {"entries": [{**ENTRY, "start": "0x1001"}]}}}, "given.kernel_map.entries[0]"),
        ({"given": {"kernel_map": {"entries": [ENTRY, {**ENTRY, "end": "0x4000"}]}}}, "given.kernel_map.entries[1]"),
        ({"given": {"user_map": {"entries": [{"start": "0x1000"}]}}}, "given.user_map.entries[0].end"),
        ({"given": {"wire_results": ["KERN_OK"]}}, "given.wire_results[0]"),
    ],
)
def test_malformed_address_is_named(tmp_path, changes, field):
    with pytest.raises(Malformed) as refused:
        read_cases(write(tmp_path, case_of(D, **changes)))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[1]", "an object expected"),
        ('{"id": "x", "id": "y"}', "comes twice"),
        ('{"id": 1.5}', "1.5 is not an integer"),
        ('{"id": NaN}', "NaN is not an integer"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5000, "not JSON"),
    ],
)
def test_line_that_is_no_case_is_refused(tmp_path, line, problem):
    with pytest.raises(Malformed, match=problem) as refused:
        read_cases(write(tmp_path, line))
    assert refused.value.line == 1


def test_unknown_key_gets_the_nearest_known_one(tmp_path):
    with pytest.raises(Malformed, match="did you mean kva_fail"):
        read_cases(write(tmp_path, case_of(C, given={"kva_fails": [1]})))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(Malformed, match="not UTF-8"):
        read_cases(path)


def test_an_id_is_used_once(tmp_path):
    with pytest.raises(Malformed, match="used twice"):
        read_cases(write(tmp_path, case_of(C), case_of(C)))


def test_a_name_of_a_process_is_used_once(tmp_path):
    processes = [{"name": "p1"}, {"name": "p1"}]
    with pytest.raises(Malformed, match="p1 is used twice"):
        read_cases(write(tmp_path, case_of("A_swapout_procs", given={"processes": processes})))
    processes = [{"name": "p1", "pid": 102}, {"name": "p2"}]
    with pytest.raises(Malformed, match="102 is used twice"):
        read_cases(write(tmp_path, case_of("A_swapout_procs", given={"processes": processes})))


A, F, G = "A_swapout_procs", "F_imgact_and_icache", "G_fork_and_wait"
ONE = {"processes": [{"name": "p1", "threads": [{"name": "t1"}]}]}


def stack_of(**stack) -> dict:
    return {"processes": [{"name": "p1", "threads": [{"name": "t1", "stack": {"content": "pages", **stack}}]}]}


@pytest.mark.parametrize(
    ("family", "given", "call", "field"),
    [
        (A, ONE, {"call": "change", "changes": [{"advance": 1}, {"proc": "p2", "nice": 1}]}, "when[0].changes[1].proc"),
        (A, ONE, {"call": "change", "changes": [{"thread": "t2", "slptick": 1}]}, "when[0].changes[0].thread"),
        (A, ONE, {"call": "change", "changes": [{"vmspace": "vm2", "resident": 1}]}, "when[0].changes[0].vmspace"),
        ("B_swapper_faultin", ONE, {"call": "faultin", "proc": "p2"}, "when[0].proc"),
        (
            "B_swapper_faultin",
            ONE,
            {"call": "swapper", "on_sleep": [[], [{"proc": "p2", "nice": 1}]]},
            "when[0].on_sleep[1][0].proc",
        ),
        (
            "B_swapper_faultin",
            ONE,
            {"call": "swapper", "after_scan": {"2": [{"proc": "p2", "nice": 1}]}},
            "when[0].after_scan.2[0].proc",
        ),
        (F, {}, {"call": "vm_imgact_map_page", "object": "o1", "offset": 0}, "when[0].object"),
        (F, {}, {"call": "vm_sync_icache", "map": "vm1", "addr": "0x0", "size": "0x1"}, "when[0].map"),
        (
            G,
            ONE,
            {"call": "vm_forkproc", "thread": "t1", "child": "p2", "child_thread": None, "vmspace": None, "flags": []},
            "when[0].child",
        ),
        ("H_stack_usage", {}, {"call": "set_stack", "thread": "t1", "base": "0x0", "pages": 1}, "when[0].thread"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(tmp_path, family, given, call, field):
    case = case_of(family, given=given, when=[call], then={"steps": [{}], "final": {}})
    with pytest.raises(Malformed, match="is no ") as refused:
        read_cases(write(tmp_path, case))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("stack", "key"),
    [
        ({}, "valid"),
        ({"valid": ""}, "valid"),
        ({"valid": "VV", "pages": 3}, "valid"),
        ({"valid": "V" * 33}, "valid"),
        ({"valid": "V-", "dirty": "D"}, "dirty"),
        ({"valid": "V-", "wired": "11"}, "wired"),
        ({"valid": "VV", "queue": "I-"}, "queue"),
    ],
)
def test_a_stack_whose_strings_contradict_each_other_is_refused(tmp_path, stack, key):
    with pytest.raises(Malformed) as refused:
        read_cases(write(tmp_path, case_of(A, given=stack_of(**stack), when=[], then={"steps": [], "final": {}})))
    assert refused.value.field == f"given.processes[0].threads[0].stack.{key}"


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(Malformed, match=r"no \.jsonl file there"):
        find_files([tmp_path])
    with pytest.raises(Malformed, match="no such file"):
        find_files([tmp_path / "absent.jsonl"])
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(Malformed, match="no case"):
        read_cases(tmp_path / "empty.jsonl")


def test_a_file_named_twice_is_read_once(tmp_path):
    path = write(tmp_path, case_of(C))
    assert find_files([path, tmp_path, path]) == [path]
