"""Times as Go's programs read them, Nomad and Argo among them: durations, and how often a schedule fires.

Owns no more of cron than a bound needs: days are not looked at, so a schedule counts as one of every day.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

_DAY = 24 * 60
_SECONDS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_ONE = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|ns|s)")
# https://pkg.go.dev/github.com/robfig/cron/v3, "CRON Expression Format" and "Predefined schedules".
_NAMED = {"@hourly": 60, **dict.fromkeys(("@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"), _DAY)}
_FIELD = re.compile(r"(?:[*?]|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?")


def seconds(duration: str) -> float:
    """The seconds of a duration such as 1h30m.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(f"({_ONE.pattern})+", duration):
        raise ValueError(f"{duration} is no duration")
    return sum(float(number) * _SECONDS[unit] for number, unit in _ONE.findall(duration))


def shortest(schedules: Iterable[str]) -> float:
    """The fewest minutes that are between two runs, were all the schedules for every day.

    Raises:
        ValueError: One of them is no schedule.
    """
    pauses: list[float] = [_DAY]
    starts: set[int] = set()
    for schedule in schedules:
        text = re.sub(r"^(CRON_)?TZ=\S+\s+", "", schedule.strip())
        if text.startswith("@every "):
            pauses.append(seconds(text.removeprefix("@every ").strip()) / 60)
        elif text in _NAMED:
            pauses.append(_NAMED[text])
            starts.add(0)
        elif len(fields := text.split()) == 5:  # minute, hour, day of the month, month, day of the week
            minutes, hours = (set(_field(field, most)) for field, most in zip(fields, (59, 23), strict=False))
            starts |= {hour * 60 + minute for hour in hours for minute in minutes}
        else:
            raise ValueError(f"{schedule} is no schedule")
    times = sorted(starts)
    between = (later - earlier for earlier, later in pairwise([*times, *(one + _DAY for one in times[:1])]))
    return min((*pauses, *between))


def _field(text: str, most: int) -> Iterator[int]:
    for part in text.split(","):
        found = _FIELD.fullmatch(part)
        if not found or found[3] == "0":
            raise ValueError(f"{text} is no field of a schedule")
        first = int(found[1] or 0)
        last = int(found[2]) if found[2] else most if found[1] is None or found[3] else first
        if not first <= last <= most:
            raise ValueError(f"{text} is no field of a schedule")
        yield from range(first, last + 1, int(found[3] or 1))
