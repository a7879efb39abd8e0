"""Splits a recorded process into its threads: a task for each, and the turns in which they ran."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clients.trace import MAP_ANON, MAP_PRIVATE, OP_DTYPE, PROT_READ, PROT_WRITE, Op, Region, Runs, TaskInfo, TaskTrace

Row = tuple[int, int, int, int, int, int]


def split_threads(task: TaskTrace, first_index: int) -> list[TaskTrace]:
    """A process' first thread, which stays in its place, and its other threads.

    The recorder ran one thread at a time. THR_TURN rows say where another one went on (`a`: its number within the
    process); they become hand-overs, so that a replay makes every reference when it may be made, whoever mapped the
    page.

    Args:
        task: Records and operations of all threads in the order of their execution.
        first_index: Task index of the first thread that is made.
    """
    if not np.any(task.ops["op"] == Op.THR_TURN):
        return [task]
    split = _Split(task, first_index)
    split.run()
    return split.tasks()


@dataclass(slots=True)
class _Thread:
    """A thread in the making."""

    index: int
    """Its number for the kernel: a task index, or 0 for the first thread."""
    runs: list[Runs] = field(default_factory=list)
    ops: list[Row] = field(default_factory=list)
    ended: bool = False

    def add(self, op: int, *arguments: int) -> None:
        """An operation behind the records so far."""
        a, b, c, d = (*arguments, 0, 0, 0, 0)[:4]
        self.ops.append((sum(map(len, self.runs)), op, a, b, c, d))
        self.ended |= op in (Op.EXIT, Op.THR_EXIT)


@dataclass(slots=True)
class _Split:
    task: TaskTrace
    first_index: int
    threads: dict[int, _Thread] = field(default_factory=lambda: {0: _Thread(0)})
    """By their numbers in the recording."""
    done: int = 0
    """Records that have their thread."""
    heap: int = -1
    """Page behind the data segment."""

    def run(self) -> None:
        """Go through the operations."""
        current = self.threads[0]
        self._image(self.task.info.regions)
        for row in self.task.ops:
            pos, op, a, b, c, d = (int(row[name]) for name in ("pos", "op", "a", "b", "c", "d"))
            current.runs.append(self.task.runs[self.done : pos])
            self.done = pos
            if op == Op.THR_TURN:
                current = self._turn(current, a)
            elif op == Op.BRK:
                self._brk(current, a)
            else:
                if op == Op.EXEC:
                    self._image(self.task.info.execs[a].regions)
                current.add(op, a, b, c, d)
        current.runs.append(self.task.runs[self.done :])

    def tasks(self) -> list[TaskTrace]:
        """The finished tasks; whoever had not ended when the process did waits for a turn that never comes."""
        info, made = self.task.info, []
        for thread in self.threads.values():
            if not thread.ended:
                thread.add(Op.THR_EXIT)
            own = info if not thread.index else TaskInfo(thread.index, info.index, info.name, (), info.execs)
            made.append(TaskTrace(own, np.concatenate(thread.runs), np.array(thread.ops, OP_DTYPE)))
        return made

    def _turn(self, current: _Thread, number: int) -> _Thread:
        """Another thread goes on, or is made."""
        following = self.threads.get(number)
        if following is None:
            following = self.threads[number] = _Thread(self.first_index + len(self.threads) - 1)
            current.add(Op.THR_NEW, following.index, 1)
            current.add(Op.THR_TURN, current.index)
        elif current.ended:
            pos, op, _, b, c, d = current.ops[-1]
            current.ops[-1] = (pos, op, following.index, b, c, d)
        else:
            current.add(Op.THR_TURN, following.index)
        return following

    def _image(self, regions: tuple[Region, ...]) -> None:
        self.heap = max((r.start_vpn + r.npages for r in regions if r.kind == "brk"), default=-1)

    def _brk(self, current: _Thread, end: int) -> None:
        """brk as the mapping that it makes: a thread's stream knows the data segment's end by its own calls alone."""
        if len(self.threads) == 1 or self.heap < 0:
            current.add(Op.BRK, end)
        elif end > self.heap:
            anonymous = PROT_READ | PROT_WRITE | MAP_ANON | MAP_PRIVATE
            current.add(Op.MMAP, self.heap, end - self.heap, anonymous)
        elif end < self.heap:
            current.add(Op.MUNMAP, end, self.heap - end)
        self.heap = end
