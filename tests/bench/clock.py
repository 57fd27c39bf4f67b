"""The clock of a machine that does other things too: CPU seconds, not those that pass."""

import os
import re
import time
from collections.abc import Callable

_LEAST = 0.2
"""So many seconds something is repeated for: it must be long beside the clock's own step."""


def cpu() -> float:
    """The CPU seconds that this process has taken so far, and those of its processes that have ended."""
    return sum(os.times()[:4])


def repeated(measure: Callable[[], object]) -> float:
    """The CPU seconds of one call, without processes of its own."""
    calls, start = 0, time.process_time()
    while not calls or time.process_time() - start < _LEAST:
        # A command calls it once: no pattern is compiled by then, of which Python keeps a few hundred.
        re.purge()
        measure()
        calls += 1
    return (time.process_time() - start) / calls
