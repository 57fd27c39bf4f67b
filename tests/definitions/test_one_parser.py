"""Quantities, durations, schedules and HCL are parsed in definitions alone, which has their units and libraries."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARSERS = {
    "cron": re.compile(r"@hourly|@daily|cronsim|croniter"),
    "durations": re.compile(r"\S*(\bh\|m|\bms\||\|ms\b|\[\w*hms\]|\)h\))\S*|[mµn]s|[hm]|durationpy"),
    "hcl": re.compile(r"import (hcl2|lark)(\..*)?"),
    "quantities": re.compile(r"[KMGTPE]i|KMGT\w*|.*(\[\w*KMGT|\b[KMGTPE]i\|).*", re.DOTALL),
}
"""Texts in code that only a parser of the subject has."""
ALLOWED = {
    # The form that a stack file may use, which its schema shows. It gives no amount.
    ("quantities", "infra/settings/fields.py"),
}


def texts(source: str) -> Iterator[str]:
    """The texts in a module's code, and its imports; no docstrings, and no parts of f-strings, which write amounts."""
    nodes = list(ast.walk(ast.parse(source)))
    others = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    others |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name.name for name in node.names]
            yield from [getattr(node, "module", None) or "", *names]
            for module in names if isinstance(node, ast.Import) else [node.module or ""]:
                yield f"import {module}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in others:
            yield node.value


def parses(subject: str, source: str) -> bool:
    """Whether a module has a text that only a parser of the subject needs."""
    return any(PARSERS[subject].fullmatch(text) for text in texts(source))


@pytest.mark.parametrize("subject", PARSERS)
def test_a_subject_is_parsed_in_definitions_alone(subject: str) -> None:
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = [name for name in files.stdout.split() if not name.startswith(("definitions/", "tests/", "images/"))]
    seconds = {name for name in modules if parses(subject, (ROOT / name).read_text())}
    assert seconds - {name for key, name in ALLOWED if key == subject} == set(), "take definitions' parser instead"


@pytest.mark.parametrize(
    ("subject", "source"),
    [
        ("cron", 'NAMED = {"@hourly": 60}'),
        ("cron", "import cronsim"),
        ("cron", "from cronsim import CronSim"),
        ("durations", 'PART = re.compile(r"(\\d+)(h|ms|m|s)")'),
        ("durations", 'PART = re.compile(r"(?:(\\d+)h)?(?:(\\d+)m)?(?:(\\d+)s)?")'),
        ("durations", 'PART = re.compile(r"[0-9]+[hms]")'),
        ("durations", 'UNITS = {"h": 3600, "m": 60, "s": 1}'),
        ("hcl", "import hcl2"),
        ("hcl", "from hcl2.utils import SerializationOptions"),
        ("hcl", "from lark import Lark"),
        ("quantities", 'UNITS = {"Ki": 2**10, "Mi": 2**20}'),
        ("quantities", 'UNITS = {unit: 1024**n for n, unit in enumerate("KMGTPE", 1)}'),
        ("quantities", 'amount = re.fullmatch(r"([0-9]+)(Ki|Mi|Gi|)", text)'),
        ("quantities", 'amount = re.fullmatch(r"([0-9]+)([KMGT]i)?", text)'),
    ],
)
def test_a_second_parser_is_noticed(subject: str, source: str) -> None:
    assert parses(subject, source)
