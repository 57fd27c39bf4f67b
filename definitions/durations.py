"""Durations as Go's programs read them, Nomad and Argo among them: 1h30m, 500ms.

Owns the only parser: https://pkg.go.dev/time#ParseDuration. durationpy takes days, weeks and blanks too, which Go does
not.
"""

import re

_SECONDS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|m|us|µs|μs|ns|s)", re.ASCII)


def seconds(text: str) -> float:
    """The seconds of a duration that is not negative.

    Raises:
        ValueError: It is not one.
    """
    if text != "0" and not re.fullmatch(f"({_PART.pattern})+", text, re.ASCII):
        raise ValueError(f"{text!r} is not a duration like 10s, 2m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
