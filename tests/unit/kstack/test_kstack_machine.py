"""The stack cache against the naive model, step by step; and batches against calls one by one."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kstack_driver import KernelStacksDriver, booted, label
from naive.kernel_stacks import KernelStacks

from services.ports.common import Setting, Status
from services.ports.kstack import ThreadStack

sizes = st.sampled_from([-1, 0, 1, 2, 3, 4, 31, 32, 33, 2**31 - 1])


class CacheMachine(RuleBasedStateMachine):
    """Threads come and go, memory gets short, requests sleep and go on in any order: both must answer alike.

    The model knows no shortage: a request that sleeps has there what it will have, and vm.kstacks counts it.
    """

    @initialize(
        kstack_pages=st.sampled_from([2, 4, 8]),
        guard=st.integers(0, 2),
        limit=st.integers(-1, 6),
        kva_fail=st.lists(st.integers(1, 20), max_size=3),
    )
    def boot(self, kstack_pages, guard, limit, kva_fail):
        build = {"kstack_pages": kstack_pages, "kstack_guard_pages": guard}
        situation = {"build": build, "tunables": {"kstack_cache_size": limit}, "kva_fail": kva_fail}
        self.driver, self.naive = KernelStacksDriver(situation), KernelStacks(situation)
        self.core, self.memory = self.driver.core, self.driver.physmem
        self.alive, self.started, self.asleep = [], 0, {}

    @rule(pages=st.sampled_from([0, 0, 0]) | sizes)
    def new(self, pages):
        self.started += 1
        name = f"t{self.started}"
        tid = self.driver.tids.setdefault(name, 100 + len(self.driver.tids))
        answer = self.core.vm_thread_new([ThreadStack(tid, pages)], 0)
        wanted = self.naive.vm_thread_new(name, pages)
        assert (answer.kstacks, answer.cache_length) == (wanted["kstacks"], wanted["cache_length"])
        self.answered(name, answer, wanted)

    def answered(self, name, answer, wanted):
        if answer.status is Status.SUSPENDED:
            assert not wanted["cached"], "a stack from the cache needs no memory"
            assert self.memory.free_pages == 0
            self.asleep[answer.suspension.op] = name, wanted
            return
        (new,) = answer.stacks
        fields = (new.ok, label(new.stack), new.td_kstack_pages, new.cached, new.kva_bytes, new.mapped_pages)
        assert fields == tuple(wanted[key] for key in ("ok", "stack", "pages", "cached", "kva_bytes", "mapped_pages"))
        if new.ok:
            self.alive.append(name)

    @precondition(lambda self: self.asleep)
    @rule(data=st.data())
    def resume(self, data):
        op = data.draw(st.sampled_from(sorted(self.asleep)))
        name, wanted = self.asleep.pop(op)
        answer = self.core.vm_thread_new([], op)
        if answer.status is Status.SUSPENDED:
            assert answer.suspension.op == op, "a request keeps its id"
        self.answered(name, answer, wanted)

    @rule(pages=st.sampled_from([0, 1, 5, 12, 40, 1000, 1000, 1000]))
    def memory_changes(self, pages):
        self.memory.free_pages = pages

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def dispose(self, data):
        self.dispose_of(data)

    @precondition(lambda self: len(self.alive) > 1)
    @rule(data=st.data())
    def dispose_two(self, data):
        self.dispose_of(data)
        self.dispose_of(data)

    def dispose_of(self, data):
        name = self.alive.pop(data.draw(st.integers(0, len(self.alive) - 1)))
        assert self.driver.vm_thread_dispose(name) == self.naive.vm_thread_dispose(name)

    @rule()
    def lowmem(self):
        assert self.driver.lowmem() == self.naive.lowmem()

    @rule(above=st.sampled_from([-2, -1, 0, 0, 1]))
    def set_limit_about_the_number_of_stacks(self, above):
        self.set_limit(self.naive.kstacks + above)

    @rule(limit=st.integers(-(2**31), 2**31 - 1))
    def set_limit(self, limit):
        self.driver.set_tunable("kstack_cache_size", limit)
        self.naive.set_tunable("kstack_cache_size", limit)

    @invariant()
    def same_state(self):
        found, wanted = self.driver.final(), self.naive.final()
        for _, answer in self.asleep.values():
            for state in (found, wanted):
                del state["stacks"][answer["stack"]]
        if self.asleep:
            del found["wired_pages"], wanted["wired_pages"]
        assert found == wanted
        assert self.core.check().violations == []


CacheMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestCacheMachine = CacheMachine.TestCase

batches = st.lists(st.tuples(st.lists(sizes, max_size=6), st.integers(0, 5), st.booleans()), max_size=8)


@settings(max_examples=60, deadline=None)
@given(batches=batches, limit=st.integers(0, 8), kva_fail=st.lists(st.integers(1, 12), max_size=3))
def test_a_batch_answers_as_the_calls_one_by_one(batches, limit, kva_fail):
    many, memory = booted(kva_fail=kva_fail)
    one, _ = booted(kva_fail=kva_fail)
    for core in (many, one):
        core.sysctl_set(Setting("vm.kstack_cache_size", limit))
    alive, tid = [], 0
    for wanted, dispose, lowmem in batches:
        threads = [ThreadStack(tid + i + 1, pages) for i, pages in enumerate(wanted)]
        tid += len(threads)
        built = memory.calls.count("stack_create")
        together = many.vm_thread_new(threads, 0)
        assert memory.calls.count("stack_create") <= built + 1
        assert together.stacks == [one.vm_thread_new([thread], 0).stacks[0] for thread in threads]
        alive += [thread.tid for thread, new in zip(threads, together.stacks, strict=True) if new.ok]
        gone, alive = alive[:dispose], alive[dispose:]
        assert many.vm_thread_dispose(gone).stacks == [one.vm_thread_dispose([t]).stacks[0] for t in gone]
        if lowmem:
            assert many.vm_thread_stack_lowmem() == one.vm_thread_stack_lowmem()
        assert many.stack_states(True) == one.stack_states(True)
    assert many.digest() == one.digest()
    assert many.counters() == one.counters()


@settings(max_examples=60, deadline=None)
@given(wanted=st.lists(sizes, min_size=1, max_size=6), free=st.lists(st.integers(0, 12), max_size=30))
def test_a_request_that_sleeps_for_memory_ends_as_one_that_does_not(wanted, free):
    core, memory = booted()
    calm, _ = booted()
    threads = [ThreadStack(i + 1, pages) for i, pages in enumerate(wanted)]
    memory.free_pages, op, slept = 0, 0, 0
    for pages in [*free, 10_000]:
        answer = core.vm_thread_new(threads if not op else [], op)
        assert core.check().violations == []
        if answer.status is Status.DONE:
            break
        slept += 1
        op = answer.suspension.op
        assert (answer.suspension.channel, answer.suspension.priority) == ("v_free_count", 84)
        assert answer.kstacks == len(answer.stacks) + 1, "the stack that sleeps is counted already"
        memory.free_pages += pages
    else:
        answer = core.vm_thread_new([], op)
    assert slept > 0
    assert answer == calm.vm_thread_new(threads, 0)
    assert core.stack_states(True) == calm.stack_states(True)
    assert core.digest().events == calm.digest().events
