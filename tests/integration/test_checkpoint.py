"""Checkpoints of `tiny`: a machine goes on from one to the hash that it would have had, in any wiring."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from systems import start_system

from clients.checkpoint import restore, take
from clients.checkpoint_file import VERSION, CheckpointError, CheckpointFile
from clients.kernel import SERVICES
from clients.run import Ending, Limit, Run
from clients.system import System
from clients.workload import load_workload
from services.ports.common import Answers
from services.ports.kstack import KstackBoot, StackSample, StackUse
from services.ports.pager import PagerBoot
from services.ports.physmem import PhysmemBoot
from services.runtime.errors import Refused
from services.runtime.snapshot import seal, unseal

POINTS = (0, 120, 333, 444, 700)
"""Slices in front of which a checkpoint is taken; 444 with writes to swap under way and a fault that sleeps."""


@pytest.fixture(scope="module")
def undisturbed():
    """The report of a run of which no checkpoint was taken."""
    with System.local() as system:
        run = Run(system.kernel, load_workload("tiny"))
        run.boot()
        return run.report(run.execute())


@pytest.fixture(scope="module")
def tiny():
    """Checkpoints of one run on the way, and its report."""
    with System.local() as system:
        run = Run(system.kernel, load_workload("tiny"))
        run.boot()
        files = {}
        for point in POINTS:
            if point:
                assert run.execute(limit=Limit(dispatches=point)) is Ending.PAUSED
            files[point] = take(run).pack()
        report = run.report(run.execute())
        files["end"] = take(run).pack()
        return files, report


def finished(run):
    return run.report(run.execute())


def digests(system):
    return {name: port.digest() for name, port in system.kernel.ports().items()}


def test_taking_a_checkpoint_changes_nothing(tiny, undisturbed):
    _, whole = tiny
    assert whole["event_hash"] == undisturbed["event_hash"]
    assert whole["dispatches"] == undisturbed["dispatches"]


@pytest.mark.parametrize("point", POINTS)
def test_a_restored_machine_goes_on_to_the_same_hash(tiny, point):
    files, whole = tiny
    with start_system("local") as system:
        report = finished(restore(system.kernel, CheckpointFile.unpack(files[point])))
    assert report["event_hash"] == whole["event_hash"]
    for figure in ("references", "run_records", "dispatches", "faults", "pageouts", "swapouts", "processes", "end"):
        assert report[figure] == whole[figure], figure
    integrity = report["integrity"]
    assert (integrity["mismatches"], integrity["pages_checked"]) == (0, whole["integrity"]["pages_checked"])


def test_saved_local_goes_on_over_grpc_and_back(tiny):
    files, whole = tiny
    with start_system("grpc") as distributed, start_system("local") as local:
        run = restore(distributed.kernel, CheckpointFile.unpack(files[333]))
        assert run.execute(limit=Limit(dispatches=700)) is Ending.PAUSED
        there = take(run)
        again = restore(local.kernel, there)
        report = finished(run)
        assert (report["wiring"], report["event_hash"]) == ("grpc", whole["event_hash"])
        assert report["counters_agree"]
        assert finished(again)["event_hash"] == whole["event_hash"]
    here = CheckpointFile.unpack(files[700])
    assert {name: there.parts[name] for name in SERVICES} == {name: here.parts[name] for name in SERVICES}


def test_what_is_saved_right_after_loading_is_the_same(tiny):
    files, _ = tiny
    file = CheckpointFile.unpack(files[700])
    with start_system("local") as system:
        again = take(restore(system.kernel, file))
        assert all(not port.check().violations for port in system.kernel.ports().values())
    assert {name: again.parts[name] for name in SERVICES} == {name: file.parts[name] for name in SERVICES}
    tree, before = again.tree()["run"], file.tree()["run"]
    assert tree["orchestrator"]["streams"] == before["orchestrator"]["streams"]
    assert tree["orchestrator"]["dispatch"] == before["orchestrator"]["dispatch"]


def test_pages_in_swap_and_operations_under_way_are_held(tiny):
    files, _ = tiny
    trees = [CheckpointFile.unpack(files[point]).tree() for point in POINTS]
    assert any(len(tree["pager"]["core"]["devices"][0]["blocks"]) > 0 for tree in trees)
    assert any(tree["pager"]["core"]["ios"]["pending"] for tree in trees)
    assert any(tree["physmem"]["core"]["rest"]["writes"] for tree in trees)
    assert any(tree["physmem"]["core"]["rest"]["ops"] for tree in trees)
    frames = len(trees[-1]["physmem"]["core"]["frames"])
    assert 0 < frames <= trees[-1]["physmem"]["core"]["pages"]["count"]


def test_a_finished_machine_is_finished_when_it_comes_back(tiny):
    files, whole = tiny
    with start_system("local") as system:
        run = restore(system.kernel, CheckpointFile.unpack(files["end"]))
        assert run.ending() is Ending.COMPLETE
        assert run.report(run.execute())["event_hash"] == whole["event_hash"]


def test_damaged_files_are_refused_whole(tiny):
    files, _ = tiny
    data = files[120]
    chance = random.Random(7)
    for _ in range(300):
        damaged = bytearray(data)
        at = chance.randrange(len(damaged))
        if chance.random() < 0.3:
            del damaged[at:]
        elif chance.random() < 0.3:
            damaged[at:at] = bytes(chance.randrange(1, 9))
        else:
            damaged[at] ^= 1 << chance.randrange(8)
        with pytest.raises(CheckpointError):
            CheckpointFile.unpack(bytes(damaged))


def test_newer_and_other_files_are_refused_with_the_reason(tiny):
    files, _ = tiny
    line = b"vmglue-checkpoint %d\n"
    newer = files[0].replace(line % VERSION, line % (VERSION + 1), 1)
    with pytest.raises(CheckpointError, match=f"version .{VERSION + 1}.; this program reads version {VERSION}"):
        CheckpointFile.unpack(newer)
    for other in (b"", b"vmglue-events 1\n{}\n", b"vmglue-checkpoint 1", b"\x7fELF" * 100):
        with pytest.raises(CheckpointError):
            CheckpointFile.unpack(other)


def broken(part, how):
    """A part that is well packed and wrong inside."""
    content = unseal(part)
    if how == "cut":
        return seal(content[: len(content) // 2])
    if how == "class":
        return seal(content.replace(b"ServiceState", b"SurviceState", 1).replace(b"RunState", b"RanState", 1))
    if how == "newer":
        return part[:8] + b"\x09\x00" + part[10:]
    return seal(b"N")


@pytest.mark.parametrize("how", ["cut", "class", "newer", "nothing"])
@pytest.mark.parametrize("name", ["run", *SERVICES])
def test_nothing_changes_when_one_part_is_wrong(machine_in_use, tiny, name, how):
    system, run = machine_in_use
    files, _ = tiny
    file = CheckpointFile.unpack(files[700])
    before, calls = digests(system), run.orchestrator.dispatch
    with pytest.raises(CheckpointError):
        restore(system.kernel, replace(file, parts={**file.parts, name: broken(file.parts[name], how)}))
    assert (digests(system), run.orchestrator.dispatch) == (before, calls)


def test_parts_are_not_taken_for_one_another(machine_in_use, tiny):
    system, _ = machine_in_use
    files, _ = tiny
    file, before = CheckpointFile.unpack(files[700]), digests(system)
    for name in ("run", *SERVICES):
        others = {**file.parts, name: file.parts["kstack" if name != "kstack" else "pager"]}
        with pytest.raises(CheckpointError):
            restore(system.kernel, replace(file, parts=others))
        missing = {other: part for other, part in file.parts.items() if other != name}
        with pytest.raises(CheckpointError, match=f"no part '{name}'"):
            restore(system.kernel, replace(file, parts=missing))
    assert digests(system) == before


@pytest.fixture(scope="module")
def machine_in_use():
    with start_system("local") as system:
        run = Run(system.kernel, load_workload("tiny"))
        run.boot()
        run.execute(limit=Limit(dispatches=40))
        yield system, run


def test_pieces_must_follow_one_another(machine_in_use):
    system, _ = machine_in_use
    port = system.kernel.kstack
    whole = port.checkpoint_save(0).data
    with pytest.raises(Refused):
        port.checkpoint_commit()
    port.checkpoint_load(0, len(whole), whole[:100])
    with pytest.raises(Refused):
        port.checkpoint_commit()
    with pytest.raises(Refused):
        port.checkpoint_load(110, len(whole), whole[110:120])
    with pytest.raises(Refused):
        port.checkpoint_load(100, len(whole), whole[100:] + b"x")
    port.checkpoint_load(100, len(whole), whole[100:])
    before = port.digest()
    port.checkpoint_commit()
    assert port.digest() == before
    with pytest.raises(Refused):
        port.checkpoint_save(len(whole))


def test_a_service_that_was_never_booted_has_no_checkpoint():
    with System.local() as system, pytest.raises(Refused, match="booted"):
        system.kernel.pager.checkpoint_save(0)


def booted_kstack(system):
    system.kernel.pager.boot(PagerBoot(page_count=1000))
    system.kernel.physmem.boot(PhysmemBoot(ram_pages=1000))
    system.kernel.kstack.boot(KstackBoot(allow_inject=True))
    return system.kernel.kstack


def test_scripted_answers_go_on_where_they_are_allowed_alone():
    with start_system("local", allow_inject=True) as system, start_system("local", allow_inject=True) as other:
        port = booted_kstack(system)
        port.inject([Answers("atomic_cmpset_int", [0, 400, 0], cycle=True)])
        sample = StackSample(td_kstack=4096, td_kstack_pages=4, sp=4096 + 4 * 4096 - 300)
        assert port.intr_prof_stack_use([sample]).max_kstack_used == [300]
        whole = port.checkpoint_save(0).data
        other.kernel.kstack.checkpoint_load(0, len(whole), whole)
        other.kernel.kstack.checkpoint_commit()
        deeper = replace(sample, sp=sample.sp - 50)
        assert other.kernel.kstack.intr_prof_stack_use([deeper]) == port.intr_prof_stack_use([deeper])
        assert port.intr_prof_stack_use([]) == StackUse([])
        assert other.kernel.kstack.digest() == port.digest()
    with start_system("local") as strict, pytest.raises(Refused, match="injection allowed"):
        strict.kernel.kstack.checkpoint_load(0, len(whole), whole)


def test_the_chain_of_events_goes_on_and_old_records_stay_behind(tiny):
    files, _ = tiny
    with start_system("local") as system:
        run = restore(system.kernel, CheckpointFile.unpack(files[333]))
        port = system.kernel.scheduler
        total = port.digest().event_count
        assert (port.events(0, 10).records, port.events(0, 10).total) == (b"", total)
        run.execute(limit=Limit(dispatches=340))
        chunk = port.events(0, 10)
        assert chunk.first == total
        assert len(chunk.records) > 0
