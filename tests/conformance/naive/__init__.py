"""Plain models of vm_glue.c, written straight from the C: the oracle for the cores."""

from __future__ import annotations

from naive.access import Access
from naive.forking import Forking
from naive.imgact import Image
from naive.kernel_stacks import KernelStacks
from naive.stack_usage import StackUsage
from naive.swapping import Swapping
from naive.words import Json, play

MODELS = {
    "A_swapout_procs": Swapping,
    "B_swapper_faultin": Swapping,
    "C_kernel_stacks": KernelStacks,
    "D_access_and_wiring": Access,
    "E_stack_paging": Swapping,
    "F_imgact_and_icache": Image,
    "G_fork_and_wait": Forking,
    "H_stack_usage": StackUsage,
}
"""The model of each family."""


def answer(case: Json) -> Json:
    """What a case's model answers: the `then` of the case."""
    return play(MODELS[case["family"]](case["given"]), case["when"])
