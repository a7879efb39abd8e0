"""All mutations, in the order in which they are tried and listed."""

from __future__ import annotations

from tests.mutation.change import Change
from tests.mutation.changes import access, fork, kstack, maps, pager, pages, signals, sleep, swapin, swapout

CHANGES: tuple[Change, ...] = (
    *swapout.CHANGES,
    *swapin.CHANGES,
    *sleep.CHANGES,
    *signals.CHANGES,
    *fork.CHANGES,
    *kstack.CHANGES,
    *access.CHANGES,
    *maps.CHANGES,
    *pages.CHANGES,
    *pager.CHANGES,
)
