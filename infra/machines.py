"""The n1 machine types: what each has. Pure; it knows no price, no zone and no other family."""

import re
from dataclasses import dataclass

# https://cloud.google.com/compute/docs/general-purpose-machines#n1_machine_types: MB (2^20 bytes) of memory for each
# vCPU, and the numbers of vCPU that there are; only n1-standard has a machine with one.
_MB_PER_VCPU = {"standard": 3840, "highmem": 6656, "highcpu": 921.6}
_VCPU = (1, 2, 4, 8, 16, 32, 64, 96)


@dataclass(frozen=True)
class Machine:
    """One machine: memory in MB of 2^20 bytes."""

    vcpu: int
    memory_mb: int


def machine(machine_type: str) -> Machine | None:
    """What a machine type has; None if there is no such n1 type."""
    found = re.fullmatch(r"n1-(standard|highmem|highcpu)-([0-9]+)", machine_type)
    if not found or int(found[2]) not in _VCPU or (found[2] == "1" and found[1] != "standard"):
        return None
    return Machine(int(found[2]), int(int(found[2]) * _MB_PER_VCPU[found[1]]))
