"""The rules, a subject a file."""

from policy.rule import Rule
from policy.rules import nomad

ALL: tuple[Rule, ...] = (*nomad.RULES,)
