"""The rules, a subject a file."""

from policy.rule import Rule
from policy.rules import (
    across,
    agents,
    containers,
    cost,
    gke,
    iam,
    kubernetes,
    machines,
    names,
    network,
    nomad,
    outputs,
    releases,
    spark,
    storage,
    workflows,
    zones,
)

ALL: tuple[Rule, ...] = (
    *across.RULES,
    *agents.RULES,
    *containers.RULES,
    *cost.RULES,
    *gke.RULES,
    *iam.RULES,
    *kubernetes.RULES,
    *machines.RULES,
    *names.RULES,
    *network.RULES,
    *nomad.RULES,
    *outputs.RULES,
    *releases.RULES,
    *spark.RULES,
    *storage.RULES,
    *workflows.RULES,
    *zones.RULES,
)
