"""Sizes and durations."""

import pytest

from clients.units import format_size, parse_duration, parse_size


@pytest.mark.parametrize(("text", "size"), [("24 MiB", 24 << 20), ("0.5KiB", 512), ("0 B", 0), (" 1.5 GiB ", 3 << 29)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "us"), [("1.5 s", 1_500_000), ("20ms", 20_000), ("0.1 s", 100_000), ("2 h", 7_200_000_000)]
)
def test_durations_are_exact(text, us):
    assert parse_duration(text) == us


@pytest.mark.parametrize("text", ["24", "24 MB", "-1 MiB", "1e3 KiB", "", 24, None, "0.3 B"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(ValueError, match="expected a size such as"):
        parse_size(text)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (24 << 20, "24 MiB"), (1536, "1536 B"), (3 << 29, "1536 MiB")])
def test_sizes_are_shown_in_the_largest_whole_unit(size, text):
    assert format_size(size) == text
    assert parse_size(text) == size
