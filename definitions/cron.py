"""How often the schedules of a CronWorkflow fire.

How Argo reads them: https://pkg.go.dev/github.com/robfig/cron/v3.
Owns no more of cron than a bound needs: days are not looked at, so a schedule counts as one of every day.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise

from cronsim import CronSim, CronSimError

from definitions import durations

_DAY = 24 * 60
_NAMED = {"@hourly": 60, **dict.fromkeys(("@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"), _DAY)}


def shortest_pause(schedules: Iterable[str]) -> float:
    """The fewest minutes that are between two runs, were all the schedules for every day.

    Raises:
        ValueError: One of them is not a schedule.
    """
    pauses: list[float] = [_DAY]
    starts: set[int] = set()
    for schedule in schedules:
        text = re.sub(r"^(CRON_)?TZ=\S+\s+", "", schedule.strip())
        if text.startswith("@every "):
            pauses.append(durations.seconds(text.removeprefix("@every ").strip()) / 60)
        elif text in _NAMED:
            pauses.append(_NAMED[text])
            starts.add(0)
        else:
            try:
                # Argo takes ? for *, and no seconds.
                fields = CronSim(text.replace("?", "*"), datetime.now(UTC))
            except CronSimError as error:
                raise ValueError(f"{schedule} is not a schedule: {error}") from None
            if len(text.split()) != 5:
                raise ValueError(f"{schedule} is not a schedule: it has another number of fields than 5")
            starts |= {hour * 60 + minute for hour in fields.hours for minute in fields.minutes}
    times = sorted(starts)
    between = (later - earlier for earlier, later in pairwise([*times, *(first + _DAY for first in times[:1])]))
    return min((*pauses, *between))
