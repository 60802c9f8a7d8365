from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.crawl.retrying import backoff, is_host_fault, retry_after

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0), (" 0 ", 0.0), ("Thu, 01 Jan 2026 12:01:30 GMT", 90.0), ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thursday, 01-Jan-26 12:00:10 GMT", 10.0), ("soon", None), ("-5", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_retry_after_in_seconds_and_as_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=20), st.integers(1, 60))
def test_the_pause_is_jittered_within_its_ceiling_and_the_same_each_time(key, attempt):
    pause = backoff(key, attempt, 0.5, 30.0)
    assert 0 <= pause <= min(30.0, 0.5 * 2 ** (attempt - 1)) and pause == backoff(key, attempt, 0.5, 30.0)


def test_pauses_of_different_urls_are_spread():
    pauses = [backoff(f"http://x/{n}", 3, 0.5, 30.0) for n in range(200)]
    assert min(pauses) < 0.2 and max(pauses) > 1.8 and 0.8 < sum(pauses) / 200 < 1.2


def test_which_failures_speak_against_a_host():
    assert [is_host_fault(reason) for reason in ("timeout", "http_502", "http_404", "not_image", None)] == [
        True, True, False, False, False,
    ]  # fmt: skip
