"""The rules, a subject a file."""

from policy.rule import Rule
from policy.rules import across, cost, iam, machines, names, network, nomad, storage

ALL: tuple[Rule, ...] = (
    *across.RULES,
    *cost.RULES,
    *iam.RULES,
    *machines.RULES,
    *names.RULES,
    *network.RULES,
    *nomad.RULES,
    *storage.RULES,
)
