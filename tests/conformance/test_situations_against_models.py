"""Random situations of families A, B, E, F and G: the services answer as the naive models do, in both wirings."""

from __future__ import annotations

from hypothesis import given, settings
from naive import answer
from naive.imgact import Image
from naive.words import play as play_naive
from situations import forking, images, swapping

from clients.conform.cases import read_case
from clients.conform.compare import mismatches
from clients.conform.runner import play

RANDOM = settings(max_examples=50, deadline=None)


def assert_agree(system, family: str, situation: dict, when: list[dict]) -> None:
    """The kernel plays the case as its model answers it."""
    case = {"id": "random", "family": family, "given": situation, "when": when}
    read = read_case({**case, "then": answer(case)})
    assert mismatches(read, *play(system.kernel, read)) == []


@RANDOM
@given(swapping(paging=False))
def test_processes_go_out_and_come_in(system, case):
    assert_agree(system, "B_swapper_faultin", *case)


@RANDOM
@given(swapping(paging=True))
def test_stacks_are_paged(system, case):
    assert_agree(system, "B_swapper_faultin", *case)


def with_labels(situation: dict, when: list[dict]) -> list[dict]:
    """The calls, with those that undo a mapping naming one that lives then: the model knows which."""
    model, calls = Image(situation), []
    for call in when:
        if call["call"] == "unmap":
            if not model.mappings:
                continue
            label = list(model.mappings)[call["nth"] % len(model.mappings)]
            call = {"call": "vm_imgact_unmap_page", "mapping": label}
        calls.append(call)
        if "panic" in play_naive(model, [call])["steps"][-1]:
            break
    return calls


@RANDOM
@given(images())
def test_image_pages_are_mapped(system, case):
    situation, when = case
    assert_agree(system, "F_imgact_and_icache", situation, with_labels(situation, when))


@RANDOM
@given(forking())
def test_processes_fork(system, case):
    assert_agree(system, "G_fork_and_wait", *case)
