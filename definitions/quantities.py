"""Amounts as Kubernetes and Spark write them: 500m cores, 2Gi of memory, 2g for a JVM.

Owns the only parser of each. It knows no default and no limit.
"""

import re
from fractions import Fraction

_POWERS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(1000),
    **{unit: Fraction(1000**power) for power, unit in enumerate("MGTPE", 2)},
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"(\d+\.?\d*(?:[eE][+-]?\d{1,2})?|\.\d+)([numkMGTPE]?|[KMGTPE]i)")
_JVM_POWERS = {"k": Fraction(1, 1024), "m": Fraction(1), "g": Fraction(1024), "t": Fraction(1024**2)}
_JVM_MEMORY = re.compile(r"(\d{1,12})([kmgt]?)b?", re.IGNORECASE)


def quantity(text: str) -> Fraction | None:
    """A Kubernetes quantity in cores or bytes; None if it is not one.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    match = _QUANTITY.fullmatch(text)
    return Fraction(match[1]) * _POWERS[match[2]] if match else None


def jvm_mebibytes(text: str) -> Fraction | None:
    """The memory of a Spark process, 512m or 2g, in MiB; None if it is not one. A number without a unit is in MiB."""
    match = _JVM_MEMORY.fullmatch(text)
    return int(match[1]) * _JVM_POWERS[match[2].lower() or "m"] if match else None
