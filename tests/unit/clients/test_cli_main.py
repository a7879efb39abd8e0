import json
import shutil

import pytest
from made_trace import make_trace, make_workload

from clients.cli import main
from clients.cli.options import parse_services
from clients.cli.run_command import exit_code
from clients.exits import BadInput, Exit, SystemFailed
from clients.signals import Interrupted
from services.runtime.errors import KernelPanic, ServiceFault, ServiceLost

COMMANDS = (
    "run",
    "up",
    "down",
    "status",
    "sysctl",
    "workloads",
    "events",
    "capture",
    "conform",
    "bench",
    "trace info",
    "checkpoint save",
    "checkpoint load",
    "checkpoint show",
    "checkpoint diff",
)


@pytest.fixture(autouse=True)
def _no_default_system(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("VMGLUE_TARGET", raising=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(capsys, command):
    assert main([*command.split(), "--help"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "Examples" in shown
    assert f"vmglue {command}" in shown


def complaint(capsys, *arguments) -> str:
    """The one line that a wrong command line gets."""
    assert main([str(argument) for argument in arguments]) == Exit.BAD_INPUT
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("vmglue: ")
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["frobnicate"], "No such command"),
        (["run"], "Missing argument"),
        (["run", "nothing-like-this"], "expected a .toml file"),
        (["run", "no/such/file.toml"], "no such file"),
        (["run", "x", "--seed", "many"], "--seed"),
        (["run", "x", "--wiring", "wireless"], "--wiring"),
        (["run", "x", "--no-such-option"], "No such option"),
        (["events", "/no/such/file"], "cannot be read"),
        (["trace", "info", "/no/such/file"], "cannot be read"),
        (["conform", "/no/such/file.jsonl"], "no such file"),
        (["status"], "no system is up"),
        (["sysctl", "vm.swap_enabled=0"], "no system is up"),
        (["up", "--listen", "0.0.0.0:7100"], "anybody could call"),
        (["capture", "-o", "x.vmtrace", "--", "no-such-program-anywhere"], "no-such-program-anywhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, arguments, part):
    assert part in complaint(capsys, *arguments)


def test_wrong_key_names_file_line_and_the_right_one(capsys, tmp_path):
    path = tmp_path / "w.toml"
    path.write_text('[machine]\nrom = "4 MiB"\n')
    line = complaint(capsys, "run", path)
    assert f"{path}:2" in line
    assert "'ram'" in line


@pytest.mark.parametrize("option", ["--report", "--html", "--events"])
def test_output_is_checked_before_anything_is_started(capsys, tmp_path, option):
    path = make_workload(tmp_path)
    assert "cannot be written" in complaint(capsys, "run", path, option, tmp_path / "nowhere" / "x")


def test_unknown_sysctl_of_a_run_is_bad_input(capsys, tmp_path):
    path = make_workload(tmp_path)
    line = complaint(capsys, "run", path, "--wiring", "local", "--set", "vm.swap_enabledd=1")
    assert "vm.swap_enabled" in line


def test_a_signal_that_does_not_exist_is_bad_input(capsys):
    for name in ("WINCHH", "0", "32", "-1"):
        assert "expected one of HUP, INT" in complaint(capsys, "kill", "100", f"--signal={name}")


def test_target_without_a_system_is_named(capsys, tmp_path):
    path = make_workload(tmp_path)
    assert "no vmglue system answers" in complaint(capsys, "run", path, "--target", f"unix:{tmp_path}/none.sock")


def test_down_without_a_system_is_fine(capsys):
    assert main(["down"]) == Exit.OK
    assert "no system is up" in capsys.readouterr().out


def test_trace_info_describes_a_trace(capsys, tmp_path):
    path = make_trace(tmp_path / "made.vmtrace")
    assert main(["trace", "info", str(path)]) == Exit.OK
    assert "103,880 in 4,240 run records" in complaint_free(capsys)
    assert main(["trace", "info", str(path), "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["tasks"][0]["name"] == "made"


def complaint_free(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_shipped_workloads_are_listed(capsys):
    assert main(["workloads", "--json"]) == Exit.OK
    rows = json.loads(complaint_free(capsys))
    assert all(row["programs"] for row in rows)


def test_version_is_shown(capsys):
    assert main(["--version"]) == Exit.OK
    assert complaint_free(capsys).startswith("vmglue ")


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_captured_program_can_be_described(capsys, tmp_path):
    path = tmp_path / "true.vmtrace"
    assert main(["capture", "-o", str(path), "--max-refs", "1000000", "--", "true"]) == Exit.OK
    assert "exit status 0" in capsys.readouterr().out
    assert main(["trace", "info", str(path)]) == Exit.OK
    assert "command     true" in complaint_free(capsys)


def test_run_local_end_to_end(capsys, tmp_path):
    path = make_workload(tmp_path)
    files = {name: tmp_path / name for name in ("report", "html", "events")}
    options = [argument for name, file in files.items() for argument in (f"--{name}", str(file))]
    assert main(["run", str(path), "--wiring", "local", "--check", "--json", *options]) == Exit.OK
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report == json.loads(files["report"].read_text())
    assert report["checks"] == report["dispatches"]
    assert report["event_hash"] in files["html"].read_text()
    assert "virtual" in captured.err, "progress goes to standard error"
    assert main(["events", str(files["events"]), "--function", "vm_fault", "--limit", "3"]) == Exit.OK
    lines = complaint_free(capsys).splitlines()
    assert len(lines) == 3
    assert all("vm_fault" in line for line in lines)


def test_run_shows_a_table_and_quiet_nothing(capsys, tmp_path):
    path = make_workload(tmp_path)
    assert main(["run", str(path), "--wiring", "local"]) == Exit.OK
    assert "event hash" in capsys.readouterr().out
    assert main(["run", str(path), "--wiring", "local", "--quiet"]) == Exit.OK
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (BadInput("x: wrong; expected y"), Exit.BAD_INPUT, "x: wrong; expected y"),
        (ServiceLost("pager", "gone"), Exit.SERVICE_LOST, "pager was lost: gone"),
        (SystemFailed("pager was killed by SIGKILL"), Exit.SERVICE_LOST, "SIGKILL"),
        (KernelPanic("faultin: bad", "faultin", 700), Exit.PANIC, "faultin: bad (faultin, vm_glue.c:700)"),
        (ServiceFault("pager", "abc", "internal error"), Exit.FAILED, "error abc in its log"),
        (RuntimeError("a defect"), Exit.FAILED, "Traceback"),
        (Interrupted(Exit.TERMINATED), Exit.TERMINATED, ""),
        (KeyboardInterrupt(), Exit.INTERRUPTED, ""),
    ],
)
def test_every_error_has_itsexit_code(capsys, monkeypatch, error, code, part):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("clients.workload.shipped_workloads", fail)
    assert main(["workloads"]) == code
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, Exit.OK),
        ({"integrity": {"mismatches": 1}}, Exit.FAILED),
        ({"counters": {"vm.kstacks": 3}, "counters_agree": False}, Exit.FAILED),
        ({"counters": {}, "counters_agree": False}, Exit.OK),  # Redis is away: nothing can be compared
        ({"end": "deadlock"}, Exit.FAILED),
        ({"identities": ["v_forks is 3"]}, Exit.FAILED),
        ({"end": "invariant"}, Exit.FAILED),
        ({"end": "panic", "end_detail": "panic: oops (faultin, vm_glue.c:700)"}, Exit.PANIC),
        ({"end": "paused"}, Exit.INTERRUPTED),
    ],
)
def test_a_report_decides_theexit_code(capsys, change, code):
    agree = {"integrity": {"mismatches": 0}, "counters": {}, "counters_agree": True, "identities": []}
    good = {**agree, "end": "complete", "end_detail": ""}
    assert exit_code({**good, **change}) == code
    assert ("vm_glue.c:700" in capsys.readouterr().err) == (code is Exit.PANIC)


def test_services_are_named_completely_or_not_at_all():
    assert parse_services([]) == {}
    named = [f"{name}=localhost:{port}" for port, name in enumerate(("scheduler", "pager", "physmem", "kstack"))]
    assert list(parse_services(named)) == ["pager", "physmem", "kstack", "scheduler"]
    for wrong, part in ((named[:3], "kstack missing"), ([*named, "redis=x"], "redis"), (["pager"], "NAME=ADDRESS")):
        with pytest.raises(BadInput, match=part):
            parse_services(wrong)
