"""A plain model of vm_glue.c:303-480, written line by line from the C: the oracle of the stack cache.

The calls and answers are those of the conformance family C_kernel_stacks.
"""

from dataclasses import dataclass, field

PAGE_SIZE = 4096
KSTACK_MAX_PAGES = 32


class Panic(Exception):
    """panic(); its text is the message."""


@dataclass(eq=False)
class KsObject:
    """A stack's vm_object and the label under which the case knows it."""

    label: int
    pages: dict = field(default_factory=dict)
    state: str = "in_use"


@dataclass(eq=False)
class Entry:
    """struct kstack_cache_entry, at the address of the stack."""

    ks: int
    ksobj: KsObject
    next_ks_entry: "Entry | None"


@dataclass
class Thread:
    """The three fields of struct thread."""

    td_kstack: int = 0
    td_kstack_pages: int = 0
    td_kstack_obj: KsObject | None = None


class KernelStacks:
    """The globals of vm_glue.c and the kernel around them as the conformance page describes it."""

    def __init__(self, given):
        build = given.get("build", {})
        self.kstack_pages = build.get("kstack_pages", 4)
        self.guard_pages = build.get("kstack_guard_pages", 1)
        self.kstack_cache_size = given.get("tunables", {}).get("kstack_cache_size", 128)
        self.kva_fail, self.kva_calls, self.kva_bytes, self.next_va = given.get("kva_fail", []), 0, 0, PAGE_SIZE
        self.kstack_cache, self.kstacks = None, 0
        self.threads, self.objects, self.mapped, self.spans = {}, [], {}, {}

    def vm_thread_new(self, thread, pages=0):
        td = self.threads.setdefault(thread, Thread())
        if pages <= 1:
            pages = self.kstack_pages
        elif pages > KSTACK_MAX_PAGES:
            pages = KSTACK_MAX_PAGES
        if pages == self.kstack_pages and self.kstack_cache is not None:
            ks_ce = self.kstack_cache
            self.kstack_cache = ks_ce.next_ks_entry
            td.td_kstack_obj = ks_ce.ksobj
            td.td_kstack = ks_ce.ks
            td.td_kstack_pages = self.kstack_pages
            td.td_kstack_obj.state = "in_use"
            return self._new_answer(td, cached=True)
        ks = self._kva_alloc((pages + self.guard_pages) * PAGE_SIZE)
        if ks == 0:
            return self._new_answer(None)
        ksobj = KsObject(len(self.objects) + 1)
        self.objects.append(ksobj)
        self.kstacks += 1
        ks += self.guard_pages * PAGE_SIZE
        td.td_kstack_obj, td.td_kstack, td.td_kstack_pages = ksobj, ks, pages
        self.spans[ksobj.label] = (ks, pages)
        for i in range(pages):
            ksobj.pages[i] = {"valid": "V", "wired": 1}
            self.mapped[ks + i * PAGE_SIZE] = ksobj.pages[i]
        return self._new_answer(td)

    def vm_thread_dispose(self, thread):
        td = self.threads[thread]
        pages, ksobj, ks = td.td_kstack_pages, td.td_kstack_obj, td.td_kstack
        before = self.kva_bytes
        td.td_kstack = td.td_kstack_pages = 0
        cached = pages == self.kstack_pages and self.kstacks <= self.kstack_cache_size
        if cached:
            self.kstack_cache = Entry(ks, ksobj, self.kstack_cache)
            ksobj.state = "cached"
        else:
            self._vm_thread_stack_dispose(ksobj, ks, pages)
        label = f"s{ksobj.label}"
        return {
            "stack": label,
            "cached": cached,
            "freed": [] if cached else [label],
            "kva_bytes_freed": before - self.kva_bytes,
            **self._counts(),
        }

    def lowmem(self):
        before, freed = self.kva_bytes, []
        ks_ce, self.kstack_cache = self.kstack_cache, None
        while ks_ce is not None:
            ks_ce1, ks_ce = ks_ce, ks_ce.next_ks_entry
            self._vm_thread_stack_dispose(ks_ce1.ksobj, ks_ce1.ks, self.kstack_pages)
            freed.append(f"s{ks_ce1.ksobj.label}")
        return {"freed": freed, "kva_bytes_freed": before - self.kva_bytes, **self._counts()}

    def set_tunable(self, name, value):
        assert name == "kstack_cache_size"
        self.kstack_cache_size = value
        return {}

    def lose_page(self, stack, page):
        self.objects[int(stack[1:]) - 1].pages.pop(page, None)
        return {}

    def cache(self):
        """Labels of the cached stacks, first the one that is taken next."""
        labels, ks_ce = [], self.kstack_cache
        while ks_ce is not None:
            labels.append(f"s{ks_ce.ksobj.label}")
            ks_ce = ks_ce.next_ks_entry
        return labels

    def final(self):
        live = [ksobj for ksobj in self.objects if ksobj.state != "freed"]
        return {
            "kstacks": self.kstacks,
            "cache": self.cache(),
            "threads": {
                name: {"stack": f"s{td.td_kstack_obj.label}", "pages": td.td_kstack_pages} if td.td_kstack else None
                for name, td in self.threads.items()
            },
            "stacks": {f"s{ksobj.label}": self._stack(ksobj) for ksobj in self.objects},
            "wired_pages": sum(page["wired"] for ksobj in live for page in ksobj.pages.values()),
            "objects": len(live),
            "kva_bytes": self.kva_bytes,
        }

    def _vm_thread_stack_dispose(self, ksobj, ks, pages):
        self.kstacks -= 1
        for i in range(pages):
            self.mapped.pop(ks + i * PAGE_SIZE, None)
        for i in range(pages):
            if i not in ksobj.pages:
                raise Panic("vm_thread_dispose: kstack already missing?")
            del ksobj.pages[i]
        ksobj.state = "freed"
        self.kva_bytes -= (pages + self.guard_pages) * PAGE_SIZE

    def _kva_alloc(self, size):
        self.kva_calls += 1
        if self.kva_calls in self.kva_fail:
            return 0
        va, self.next_va = self.next_va, self.next_va + size
        self.kva_bytes += size
        return va

    def _stack(self, ksobj):
        ks, pages = self.spans[ksobj.label]
        row = {"state": ksobj.state, "pages": pages}
        if ksobj.state == "freed":
            return row
        present = [ksobj.pages.get(i) for i in range(pages)]
        mapped = [self.mapped.get(ks + i * PAGE_SIZE) for i in range(pages)]
        row["mapped"] = "".join(
            "." if m is None else "M" if m is page else "S" for m, page in zip(mapped, present, strict=True)
        )
        row["valid"] = "".join(page["valid"] if page else "-" for page in present)
        row["wired"] = "".join(str(page["wired"]) if page else "-" for page in present)
        return row

    def _counts(self):
        return {"kstacks": self.kstacks, "cache_length": len(self.cache())}

    def _new_answer(self, td, cached=False):
        built = td is not None and not cached
        return {
            "ok": td is not None,
            "stack": None if td is None else f"s{td.td_kstack_obj.label}",
            "pages": 0 if td is None else td.td_kstack_pages,
            "cached": cached,
            "kva_bytes": (td.td_kstack_pages + self.guard_pages) * PAGE_SIZE if built else 0,
            "guard_pages": self.guard_pages if built else 0,
            "mapped_pages": td.td_kstack_pages if built else 0,
            **self._counts(),
        }


def play(model, when):
    """Make the calls of a case on a model or on a driver of the core: its `then`."""
    steps = []
    for call in when:
        arguments = {key: value for key, value in call.items() if key != "call"}
        try:
            steps.append(getattr(model, call["call"])(**arguments))
        except Panic as panic:
            return {"steps": [*steps, {"panic": str(panic)}], "final": {"stopped": "panic"}}
    return {"steps": steps, "final": model.final()}
