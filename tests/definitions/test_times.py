"""Durations and schedules, as Go's programs read them."""

import pytest

from definitions.cron import shortest_pause
from definitions.durations import seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("1h30m", 5400), ("1.5s", 1.5), (".5s", 0.5), ("500ms", 0.5), ("10us", 1e-5), ("0", 0), ("0s", 0)],
)
def test_a_duration_is_read_as_go_reads_it(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "10", "1d", "1w", "1h 30m", " 1s", "-1s", "s", "x", "1e3s", ".s"])
def test_what_go_does_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration like 10s, 2m or 1h30m"):
        seconds(text)


@pytest.mark.parametrize(
    ("schedules", "minutes"),
    [
        (["0 3 * * 0"], 24 * 60),
        (["0 */6 * * *"], 360),
        (["*/30 9-17 * * 1-5"], 30),
        (["50 23 * * *", "10 0 * * *"], 20),
        (["5/25 * * * *"], 10),
        (["0 3 ? JAN mon"], 24 * 60),
        (["TZ=Europe/Paris 0,20 * * * *"], 20),
        (["@hourly"], 60),
        (["@every 1h30m"], 90),
    ],
)
def test_the_shortest_pause_of_schedules(schedules: list[str], minutes: float) -> None:
    assert shortest_pause(schedules) == minutes


@pytest.mark.parametrize("schedule", ["", "x", "* * * *", "0 * * * * *", "60 * * * *", "*/0 * * * *", "@every x"])
def test_what_is_not_a_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (schedule|duration)"):
        shortest_pause([schedule])
