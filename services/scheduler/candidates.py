"""Whom the swapper may choose (vm_glue.c:755-792): a row for each thread that waits for its process to come in.

The fields of processes and threads are the truth. A row holds those that the choice reads, so that the choice is one
vectorised pass instead of a walk over all processes; `check_state` compares the rows with the fields.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hardware_sim.clock import INT_MIN
from services.scheduler.proc_flags import (
    P_INMEM,
    P_SWAPPINGIN,
    P_SWAPPINGOUT,
    TDF_SWAPINREQ,
    TDI_SWAPPED,
    Prs,
)
from services.scheduler.state import Proc, Thread

SWAP_STATE = P_INMEM | P_SWAPPINGOUT | P_SWAPPINGIN
"""The bits of p_flag that say where the stacks of a process are; none of them: they are out."""
LOSERS = 8
"""Processes behind the chosen one that are told with the choice."""
_PID, _SEQ, _SWTICK, _SLPTICK, _NICE = range(5)
_FIELDS = 5
_ROWS_FIRST = 64
_UINT = 0xFFFFFFFF
_INT_SIGN = 1 << 31


class Candidates:
    """Threads that only the swap-out of their process keeps from running, as columns of int64.

    Whoever changes a field that a row is made of calls `update`: the swap state, p_state, p_swtick or p_nice of a
    process that has a row, td_inhibitors, td_slptick or TDF_SWAPINREQ of a thread that is swapped out.
    """

    __slots__ = ("_rows", "_table", "_tids")

    def __init__(self, procs: Iterable[Proc] = ()) -> None:
        """Find those among `procs`."""
        self._rows: dict[int, int] = {}
        self._tids: list[int] = []
        self._table: NDArray[np.int64] = np.zeros((_FIELDS, _ROWS_FIRST), np.int64)
        for p in procs:
            self.update_all(p)

    def __len__(self) -> int:
        return len(self._tids)

    def rows(self) -> dict[int, tuple[int, ...]]:
        """The row of each thread, for comparison."""
        return {tid: tuple(self._table[:, row].tolist()) for tid, row in self._rows.items()}

    def update_all(self, p: Proc) -> None:
        """A field of the process or of several of its threads changed."""
        for td in p.p_threads:
            self.update(p, td)

    def update(self, p: Proc, td: Thread) -> None:
        """A field of one of the process' threads changed."""
        row = self._rows.get(td.td_tid)
        if not waits_to_come_in(p, td):
            if row is not None:
                self._remove(td.td_tid, row)
            return
        if row is None:
            row = self._append(td.td_tid)
        self._table[:, row] = row_of(p, td)

    def _append(self, tid: int) -> int:
        row = len(self._tids)
        if row == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)
        self._rows[tid] = row
        self._tids.append(tid)
        return row

    def _remove(self, tid: int, row: int) -> None:
        """The last row takes the place of the one that goes."""
        last = self._tids.pop()
        del self._rows[tid]
        if last != tid:
            self._tids[row], self._rows[last] = last, row
            self._table[:, row] = self._table[:, len(self._tids)]

    def choose(self, ticks: int, hz: int) -> list[tuple[int, int]]:
        """The swapper's choice and the next `LOSERS` processes, each with the priority of its best thread.

        A process is chosen by its best thread; of equals the one that is nearer to the head of allproc. One whose
        priority is INT_MIN never is, for nothing is smaller (vm_glue.c:784).

        Args:
            ticks: The kernel's `ticks`.
            hz: Clock ticks a second.

        Returns:
            Process ids and priorities, best first; empty: nobody waits.
        """
        table = self._table[:, : len(self._tids)]
        pri = _priorities(table, ticks, hz)
        able = np.flatnonzero(pri > INT_MIN)
        # the greater key comes first: priority in the upper half, place in allproc in the lower
        return _best(table[_PID, able], pri[able].astype(np.int64) << 32 | table[_SEQ, able])


def waits_to_come_in(p: Proc, td: Thread) -> bool:
    """The swapper considers the thread (vm_glue.c:760-773)."""
    return td.td_inhibitors == TDI_SWAPPED and not p.p_flag & SWAP_STATE and p.p_state is not Prs.NEW


def row_of(p: Proc, td: Thread) -> tuple[int, ...]:
    """What the priority of a thread and the order among equals are made of."""
    nice = 0 if td.td_flags & TDF_SWAPINREQ else p.p_nice * 8
    return p.p_pid, p.p_seq, p.p_swtick, td.td_slptick, nice


def _priorities(table: NDArray[np.int64], ticks: int, hz: int) -> NDArray[np.int32]:
    """vm_glue.c:765-777 for every row: swtime is unsigned, slptime is divided toward zero, the sum wraps."""
    swtime = (ticks - table[_SWTICK] & _UINT) // hz
    slept = (ticks - table[_SLPTICK] + _INT_SIGN & _UINT) - _INT_SIGN
    slptime = np.sign(slept) * (np.abs(slept) // hz)
    priorities: NDArray[np.int32] = (swtime + slptime - table[_NICE]).astype(np.int32)
    return priorities


def _best(pids: NDArray[np.int64], keys: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The processes with the greatest keys, at most `LOSERS` and one, with their priorities."""
    wanted, looked_at = 1 + LOSERS, 1 + LOSERS
    while True:
        top = np.argpartition(keys, -looked_at)[-looked_at:] if looked_at < len(keys) else np.arange(len(keys))
        top = top[np.argsort(keys[top])[::-1]]
        ranking: dict[int, int] = {}
        for pid, key in zip(pids[top].tolist(), keys[top].tolist(), strict=True):
            ranking.setdefault(pid, key >> 32)
        if len(ranking) >= wanted or looked_at >= len(keys):
            return list(ranking.items())[:wanted]
        looked_at *= 4  # several threads of one process are among the best
