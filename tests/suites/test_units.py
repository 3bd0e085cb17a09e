"""Durations and amounts of memory: what is read, and what is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suites.units import byte_count, seconds, shown_bytes


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h30m15s", 5415),
        ("1h5s", 3605),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        (90, 90),
        (0.25, 0.25),
        ("8784h", 31_622_400),
    ],
)
def test_durations(given_, expected):
    assert seconds("x", given_) == expected


@pytest.mark.parametrize(
    "given_",
    [
        *("", "h", "m30", "30", "30 m", "30min", "30M", "-30m", "1m1h", "1h1h", "1e3s", ".5s", "5.s"),
        *("1d", "30m ", " 30m", "1h30", "inf", "nan", "8785h", "9" * 400 + "h"),
        *(-1, float("nan"), float("inf"), 31_622_401),
    ],
)  # fmt: skip
def test_what_is_no_duration(given_):
    with pytest.raises(ValueError, match=r"^stall_after: .* given, allowed: a duration such as"):
        seconds("stall_after", given_)


@given(hours=st.integers(0, 100), minutes=st.integers(0, 500), rest=st.integers(0, 500))
def test_the_parts_of_a_duration_add_up(hours, minutes, rest):
    assert seconds("x", f"{hours}h{minutes}m{rest}s") == 3600 * hours + 60 * minutes + rest


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (4096, 4096),
        ("4GiB", 4 * 2**30),
        ("4 GiB", 4 * 2**30),
        ("4GB", 4 * 10**9),
        ("512MiB", 512 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("1.1GB", 1_100_000_000),
        ("2KB", 2000),
        ("2KiB", 2048),
        ("1TiB", 2**40),
        ("1TB", 10**12),
    ],
)
def test_amounts_of_memory(given_, expected):
    assert byte_count("x", given_) == expected


@pytest.mark.parametrize(
    "given_",
    [
        *("", "4", "4G", "4gb", "4Gib", "GiB", "-4GiB", "4 B", "4B", "4GiB ", "4e9", "1e3GiB", "4PiB"),
        *("9" * 400 + "GiB", "9000TiB", -1, 2**60),
    ],
)  # fmt: skip
def test_what_is_no_amount_of_memory(given_):
    with pytest.raises(
        ValueError, match=r"^memory: .* given, allowed: bytes, or an amount such as"
    ):
        byte_count("memory", given_)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1000, "1000B"),
        (2048, "2KiB"),
        (3 * 2**29, "1.5GiB"),
        (4 * 10**9, "3.725GiB"),
        (2**42, "4TiB"),
    ],
)
def test_bytes_in_words(count, text):
    assert shown_bytes(count) == text
