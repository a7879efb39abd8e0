"""System V shared memory: shmget, shmat, shmdt, IPC_RMID, fork and exit."""

import pytest
from map_side import BASE, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from services.physmem import sysv_shm
from services.physmem.glue import EINVAL, ENOMEM
from services.physmem.sysv_shm import EEXIST, EMFILE, ENOENT, ENOSPC, IPC_CREAT, IPC_EXCL, SHM_RDONLY, SHM_RND
from services.ports.common import Status
from services.ports.physmem import KernReturn, MapOp, MapOpKind

KEY, PAGES = 7, 4


@pytest.fixture
def side():
    return MapSide(pages=256)


def make(side, key=KEY, pages=PAGES):
    answer = side.core.shmget(key, pages * PAGE, IPC_CREAT)
    assert answer.error == 0
    return answer.shmid


def attached(side, shmid):
    """An address space with the segment at BASE."""
    space = side.space()
    side.shadow.share(space, FIRST, PAGES)
    assert side.core.shmat(space, shmid, BASE, 0).error == 0
    return space


def version(side, space, page=0):
    """Stores to a page of the segment, by all."""
    stamps = side.core.vmspace_stamps(space)
    words = memoryview(stamps.words).cast("Q")
    pages = list(memoryview(stamps.vpns).cast("Q"))
    return words[6 * pages.index(FIRST + page) + 3]


def store(side, space, page=0):
    side.run(space, runs(record(FIRST + page, STORE)))


def test_what_one_stores_the_other_loads(side):
    shmid = make(side)
    one, two = attached(side, shmid), attached(side, shmid)
    store(side, one)
    store(side, two)
    store(side, one)
    assert version(side, one) == version(side, two) == 3
    assert side.vm.shmsegs[shmid].nattch == 2
    side.verify(one, two)


def test_a_segment_goes_to_swap_and_comes_back_for_all(side):
    shmid = make(side)
    one, two = attached(side, shmid), attached(side, shmid)
    for page in range(PAGES):
        store(side, one, page)
    side.evict(one)
    assert side.core.vmspace_info([one]).spaces[0].resident == 0
    side.run(two, runs(*(record(FIRST + page, LOAD | STORE) for page in range(PAGES))))
    assert [version(side, one, page) for page in range(PAGES)] == [2] * PAGES
    side.verify(one, two)


def test_keys(side):
    assert side.core.shmget(KEY, PAGE, 0).error == ENOENT
    shmid = make(side)
    assert side.core.shmget(KEY, 0, 0).shmid == side.core.shmget(KEY, PAGES * PAGE, IPC_CREAT).shmid == shmid
    assert side.core.shmget(KEY, PAGES * PAGE + 1, 0).error == EINVAL
    assert side.core.shmget(KEY, PAGE, IPC_CREAT | IPC_EXCL).error == EEXIST
    assert side.core.shmget(0, PAGE, 0).shmid != side.core.shmget(0, PAGE, 0).shmid


def test_limits(side, monkeypatch):
    assert side.core.shmget(KEY, 0, IPC_CREAT).error == EINVAL
    assert side.core.shmget(KEY, (sysv_shm.SHMALL + 1) * PAGE, IPC_CREAT).error == EINVAL
    make(side)
    assert side.core.shmget(8, sysv_shm.SHMALL * PAGE, IPC_CREAT).error == ENOMEM
    monkeypatch.setattr(sysv_shm, "SHMMNI", 1)
    assert side.core.shmget(8, PAGE, IPC_CREAT).error == ENOSPC
    monkeypatch.setattr(sysv_shm, "SHMSEG", 0)
    assert side.core.shmat(side.space(), 1, BASE, 0).error == EMFILE


def test_attaching_needs_a_segment_and_a_free_range_of_whole_pages(side):
    shmid, space = make(side), side.space(1)
    assert side.core.shmat(space, shmid + 1, BASE, 0).error == EINVAL
    assert side.core.shmat(space, shmid, BASE + 8 * PAGE + 1, 0).error == EINVAL
    assert side.core.shmat(space, shmid, BASE, 0).error == ENOMEM
    assert side.core.shmat(space, shmid, BASE + 8 * PAGE + 1, SHM_RND).error == 0
    assert side.vm.shmsegs[shmid].nattch == 1
    side.verify()


def test_read_only_stays_read_only(side):
    space = side.space()
    assert side.core.shmat(space, make(side), BASE, SHM_RDONLY).error == 0
    change = MapOp(MapOpKind.PROTECT, BASE, PAGE, prot=3)
    assert side.core.map_ops(space, [change], 0).results == [KernReturn.PROTECTION_FAILURE]


def test_detaching_needs_the_address_of_an_attachment(side):
    shmid = make(side)
    space = attached(side, shmid)
    assert side.core.shmdt(space, BASE + PAGE, 0).error == EINVAL
    assert side.core.shmdt(space, BASE, 0).error == 0
    assert side.core.shmdt(space, BASE, 0).error == EINVAL
    assert (side.vm.shmsegs[shmid].nattch, side.core.vmspace_info([space]).spaces[0].entries) == (0, 0)
    side.verify()


def test_detaching_waits_for_what_the_kernel_wired(side):
    space = attached(side, make(side))
    assert side.core.vslock(space, BASE, PAGE, 0).error == 0
    asleep = side.core.shmdt(space, BASE, 0)
    assert asleep.status is Status.SUSPENDED
    side.core.vsunlock(space, BASE, PAGE)
    assert side.core.shmdt(space, BASE, asleep.suspension.op).error == 0
    side.verify()


def test_a_removed_segment_lives_until_its_last_detachment(side):
    shmid = make(side)
    one, two = attached(side, shmid), attached(side, shmid)
    objects = len(side.vm.objects)
    assert side.core.shmctl_rmid(shmid).error == 0
    assert side.core.shmget(KEY, 0, 0).error == ENOENT
    assert side.core.shmdt(one, BASE, 0).error == 0
    assert shmid in side.vm.shmsegs
    side.core.vmspace_free([two])
    assert side.vm.shmsegs == {}
    assert len(side.vm.objects) == objects - 1
    assert side.core.shmctl_rmid(shmid).error == EINVAL
    side.verify()


def test_a_segment_that_nobody_removed_outlives_all(side):
    shmid = make(side)
    space = attached(side, shmid)
    store(side, space)
    side.core.vmspace_free([space])
    assert side.vm.shmsegs[shmid].nattch == 0
    assert version(side, attached(side, shmid)) == 1
    side.verify()


def test_detaching_takes_nothing_from_a_segment_however_often(side):
    shmid = make(side)
    for cycle in range(3):
        space = attached(side, shmid)
        store(side, space, PAGES - 1)
        assert version(side, space, PAGES - 1) == cycle + 1
        assert side.core.shmdt(space, BASE, 0).error == 0
        assert side.vm.objects[side.vm.shmsegs[shmid].object].size == PAGES
    side.verify()


def test_memory_that_joined_a_segment_is_not_split_from_it_by_a_fork(side):
    """vm_object_coalesce lets anonymous memory behind a segment grow the segment's object, as in C."""
    shmid = make(side)
    side.core.shmdt(attached(side, shmid), BASE, 0)
    space = attached(side, shmid)
    side.map(space, 2, start=BASE + PAGES * PAGE)
    side.run(space, runs(record(FIRST + PAGES, STORE), record(FIRST, STORE)))
    child = side.fork(space)
    side.run(child, runs(record(FIRST + PAGES, STORE), record(FIRST, STORE)))
    assert [version(side, one) for one in (space, child)] == [2, 2]
    assert [version(side, one, PAGES) for one in (space, child)] == [1, 2]
    side.verify(space, child)


def test_a_child_shares_and_is_counted_by_shmfork_alone(side):
    shmid = make(side)
    parent = attached(side, shmid)
    store(side, parent)
    child = side.fork(parent)
    assert side.vm.shmsegs[shmid].nattch == 1
    assert side.core.shmfork(parent, child).segments == 1
    assert side.vm.shmsegs[shmid].nattch == 2
    store(side, child)
    assert version(side, parent) == 2
    side.core.vmspace_free([parent, child])
    assert side.vm.shmsegs[shmid].nattch == 0
    side.verify()


def test_a_copy_by_vmspace_unshare_alone_maps_what_it_has_not_attached(side):
    """As in C, where vmspace_unshare calls vmspace_fork and nobody calls shmfork."""
    shmid = make(side)
    parent = attached(side, shmid)
    child = side.fork(parent)
    store(side, child)
    assert version(side, parent) == 1
    assert side.core.shmdt(child, BASE, 0).error == EINVAL
    side.verify()
