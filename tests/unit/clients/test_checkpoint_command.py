"""Checkpoints over machine.proto and on the command line, on a machine whose services live in this process."""

import json
import threading

import grpc
import numpy as np
import pytest
from made_trace import make_workload

from clients.checkpoint_file import CheckpointError, CheckpointFile
from clients.checkpoint_view import at_path, differences, lines
from clients.cli import main
from clients.exits import BadInput, Exit
from clients.keep import listen_address, served
from clients.machine_client import MachineClient
from clients.run import Run
from clients.system import System
from clients.workload import load_workload
from protos import machine_pb2 as pb
from protos.machine_pb2_grpc import MachineServiceStub
from services.runtime.errors import KernelPanic, ServiceLost
from services.runtime.snapshot import Node

STATES = pb.MachineState


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A served system, the user's default, and a client of it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("VMGLUE_TARGET", raising=False)
    with (
        System.local() as system,
        served(system, listen_address("")),
        MachineClient("default") as client,
    ):
        client.system = system
        yield client


@pytest.fixture
def made(tmp_path):
    return load_workload(str(make_workload(tmp_path, rounds=1)))


def state(client) -> int:
    return client.status().progress.state


def local_hash(workload) -> str:
    with System.local() as system:
        run = Run(system.kernel, workload)
        run.boot()
        return run.report(run.execute())["event_hash"]


def output(capsys, *arguments, code=Exit.OK) -> str:
    assert main(["checkpoint", *map(str, arguments)]) == code
    return capsys.readouterr().out


def test_saved_on_the_way_and_finished_twice(kept, made, tmp_path, capsys):
    file, expected = tmp_path / "made.vmckpt", local_hash(made)
    kept.load(made)
    kept.step(5)
    assert "5 slices" in output(capsys, "save", file) + output(capsys, "show", file)
    assert kept.run().report["event_hash"] == expected
    assert state(kept) == STATES.MACHINE_STATE_FINISHED
    assert f"{made.name} stands at " in output(capsys, "load", file)
    assert state(kept) == STATES.MACHINE_STATE_PAUSED
    assert kept.status().progress.dispatches == 5
    report = json.loads(output(capsys, "load", file, "--run", "--check", "--json"))
    assert (report["event_hash"], report["complete"]) == (expected, True)
    assert not list(tmp_path.glob("*.part"))


def test_a_run_goes_on_while_it_is_saved(kept, tmp_path):
    endless = load_workload(str(make_workload(tmp_path, rounds=1, repeat=100_000)))
    kept.load(endless)
    thread = threading.Thread(target=kept.run)
    thread.start()
    while state(kept) != STATES.MACHINE_STATE_RUNNING:
        pass
    with MachineClient("default") as other:
        first, second = (CheckpointFile.unpack(other.save_checkpoint()).about for _ in range(2))
        assert other.status().progress.state == STATES.MACHINE_STATE_RUNNING
        with pytest.raises(BadInput, match="pause it before"):
            other.load_checkpoint(CheckpointFile({}, {}).pack())
        other.pause()
    thread.join()
    assert second["dispatches"] >= first["dispatches"]


def test_a_refused_checkpoint_leaves_the_machine(kept, made, tmp_path, capsys):
    file = tmp_path / "made.vmckpt"
    kept.load(made)
    kept.step(5)
    data = kept.save_checkpoint()
    file.write_bytes(data[:-1])
    assert main(["checkpoint", "load", str(file)]) == Exit.BAD_INPUT
    assert "made.vmckpt: the checksum is wrong" in capsys.readouterr().err
    with pytest.raises(BadInput, match="the checksum is wrong"):
        kept.load_checkpoint(data[:-1])
    with pytest.raises(BadInput, match="not a checkpoint"):
        kept.load_checkpoint(b"")
    whole = CheckpointFile.unpack(data)
    with pytest.raises(BadInput, match="pager refuses the checkpoint"):
        kept.load_checkpoint(CheckpointFile(whole.about, {**whole.parts, "pager": whole.parts["kstack"]}).pack())
    assert kept.step(1).progress.dispatches == 6


def test_a_repeated_load_is_answered_once(kept, made):
    kept.load(made)
    kept.step(5)
    pieces = [pb.LoadCheckpointRequest(request_id="load-1", data=kept.save_checkpoint())]
    with grpc.insecure_channel(kept.address) as channel:
        stub = MachineServiceStub(channel)
        first = stub.LoadCheckpoint(iter(pieces))
        kept.step(2)
        assert stub.LoadCheckpoint(iter(pieces)) == first
    assert (first.workload, first.progress.dispatches) == (made.name, 5)
    assert kept.status().progress.dispatches == 7


def test_what_is_not_there_cannot_be_saved(kept, made, tmp_path):
    with pytest.raises(BadInput, match="nothing is loaded"):
        kept.save_checkpoint()
    kept.load(made)

    def fail(*_):
        raise ServiceLost("pager", "gone")

    kept.system.kernel.physmem.access_kept = fail
    kept.run()
    with pytest.raises(BadInput, match="nothing whole to save"):
        kept.save_checkpoint()
    assert main(["checkpoint", "save", str(tmp_path / "no" / "where")]) == Exit.BAD_INPUT


def test_a_panicked_machine_comes_back_panicked(kept, made):
    kept.load(made)
    access = kept.system.kernel.physmem.access_kept

    def panic(*_):
        raise KernelPanic("faultin: oops", "faultin", 700)

    kept.system.kernel.physmem.access_kept = panic
    kept.run()
    kept.system.kernel.physmem.access_kept = access
    data = kept.save_checkpoint()
    kept.load(made)
    assert kept.load_checkpoint(data).progress.state == STATES.MACHINE_STATE_PANICKED
    assert kept.status().failure.function == "faultin"


def test_services_that_fail_in_the_middle_of_a_load_are_no_machine(kept, made):
    kept.load(made)
    data = kept.save_checkpoint()

    def fail():
        raise ServiceLost("physmem", "gone")

    kept.system.kernel.physmem.checkpoint_commit = fail
    with pytest.raises(ServiceLost):
        kept.load_checkpoint(data)
    assert state(kept) == STATES.MACHINE_STATE_EMPTY


def test_show_and_diff_name_every_value(kept, made, tmp_path, capsys):
    old, new = tmp_path / "old.vmckpt", tmp_path / "new.vmckpt"
    kept.load(made)
    kept.step(5)
    output(capsys, "save", old)
    kept.set_sysctl("vm.kstack_cache_size", 7)
    output(capsys, "save", new)
    about = json.loads(output(capsys, "show", old, "--json"))
    assert (about["workload"], set(about["parts"])) == (
        made.name,
        {"run", "pager", "physmem", "kstack", "scheduler"},
    )
    path = "kstack.core.kstack_cache_size"
    assert output(capsys, "show", new, "--path", path) == f"{path} = 7\n"
    assert output(capsys, "diff", old, old) == ""
    assert output(capsys, "diff", old, new, "--path", "kstack.core", code=Exit.FAILED) == f"{path}: 128 -> 7\n"
    assert main(["checkpoint", "show", str(old), "--path", "scheduler.core", "--limit", "2"]) == Exit.OK
    shown = capsys.readouterr()
    assert (shown.out.count("\n"), "more (--limit 0" in shown.err) == (2, True)
    for command in (["show", str(old)], ["diff", str(old), str(new)]):
        assert main(["checkpoint", *command, "--path", "kstack.no.where"]) == Exit.BAD_INPUT
        assert "there is no 'no'" in capsys.readouterr().err


def test_a_file_holds_no_path_of_this_host(kept, made, tmp_path):
    kept.load(made)
    tree = CheckpointFile.unpack(kept.save_checkpoint()).tree()
    assert str(tmp_path) not in "\n".join(lines(tree))


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b'{"parts":{"run":-1}}', b'{"parts":{"run":5}}', b"[" * 9999])
def test_a_wrong_header_is_refused(header):
    data = CheckpointFile({}, {"run": b"abc"}).pack()
    at = data.index(b"\n") + 1
    body = data[:at] + len(header).to_bytes(4, "little") + header + b"abc"
    from clients import checkpoint_file

    with pytest.raises(CheckpointError, match="header is damaged"):
        CheckpointFile.unpack(body + checkpoint_file._checksum(body))


def test_differences_of_every_kind():
    node = Node("Thing")
    node["x"] = 1
    old = {"a": [1, 2], "b": b"abc", "c": np.arange(3), "d": node, "e": "same", "f": (), "g": np.zeros(2)}
    new = {"a": [1, 3, 4], "b": b"abd", "c": np.array([0, 9, 2]), "d": 5, "e": "same", "f": (), "g": np.zeros(3)}
    assert list(differences(old, new)) == [
        "a.1: 2 -> 3",
        "a.2: nothing -> 4",
        "b: 1 of 3 differ, first at 2: 99 -> 100",
        "c: 1 of 3 differ, first at 1: 1 -> 9",
        "d: {'x': 1} -> 5",
        "g: float64[2] -> float64[3]",
    ]
    assert at_path(old, "d.x") == 1
    with pytest.raises(KeyError):
        at_path(old, "a.2")
