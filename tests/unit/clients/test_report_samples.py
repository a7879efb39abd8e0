import itertools

from hypothesis import given
from hypothesis import strategies as st

from clients.report import SERIES, Sample, Samples


def filled(count: int, limit: int) -> Samples:
    samples = Samples(limit=limit)
    for t in range(count):
        samples.add(Sample(t_us=t, free=1000 - t))
    samples.close(Sample(t_us=count, free=0))
    return samples


@given(count=st.integers(0, 400), limit=st.integers(4, 40))
def test_series_stay_small_ordered_and_reach_the_end(count, limit):
    series = filled(count, limit).series
    times = series["t_us"]
    assert len(times) <= limit + 1
    assert times == sorted(set(times))
    assert times[-1] == count
    assert times[0] == 0
    assert {len(series[name]) for name in SERIES} == {len(times)}


@given(count=st.integers(50, 400))
def test_thinned_series_are_evenly_spaced(count):
    times = filled(count, 16).series["t_us"][:-1]
    gaps = {b - a for a, b in itertools.pairwise(times)}
    assert max(gaps) <= 2 * min(gaps)


def test_values_belong_to_their_time():
    series = filled(100, 8).series
    assert all(free == 1000 - t for t, free in zip(series["t_us"][:-1], series["free"][:-1], strict=True))


def test_closing_twice_at_the_same_time_adds_nothing():
    samples = filled(5, 16)
    before = len(samples.series["t_us"])
    samples.close(Sample(t_us=5, free=7))
    assert len(samples.series["t_us"]) == before
    assert samples.last.free == 7
