"""The tables of broken stack files are complete: a check, or a kind of value, without a row in one fails here."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from infra.settings import SettingsError, parse
from infra.settings.reading import ROOT
from infra.settings.tree import Settings
from tests.infra import test_settings, test_settings_of_google

BROKEN = [test_settings.changed(path, value) for path, value, *_ in test_settings.BAD] + [
    test_settings_of_google.changed(changes) for changes, *_ in test_settings_of_google.BAD
]

# What pydantic calls a value that breaks a keyword of the schema. Of texts each pattern is a kind of its own.
_KEYWORDS = {
    "minimum": "greater_than_equal",
    "maximum": "less_than_equal",
    "exclusiveMinimum": "greater_than",
    "minItems": "too_short",
    "minProperties": "too_short",
    "minLength": "string_too_short",
    "required": "missing",
    "enum": "literal_error",
    "const": "literal_error",
}
_TYPES = {
    "integer": "int_parsing",
    "number": "float_parsing",
    "boolean": "bool_parsing",
    "string": "string_type",
    "array": "tuple_type",
    "object": "model_type",
    "null": "null",
}


def told() -> list[str]:
    """What every broken file is told."""
    lines = []
    for values in BROKEN:
        with pytest.raises(SettingsError) as raised:
            parse(values, "stack.yaml")
        lines += str(raised.value).splitlines()
    return lines


def problems() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Every problem that `infra.settings.checks` yields, by its function and line, and what it may read."""
    tree = ast.parse((ROOT / "infra" / "settings" / "checks.py").read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Yield) and isinstance(node.value, ast.JoinedStr | ast.Constant):
                    parts = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
                    text = "".join(
                        re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts
                    )
                    yield f"{function.name}, line {node.lineno}", re.compile(rf"stack\.yaml: hybrid-mlops:{text}")


def kinds(schema: Any) -> Iterator[str]:
    """Every kind of value that the settings have, as pydantic calls a mistake in it; of a text its pattern."""
    if isinstance(schema, list):
        for inner in schema:
            yield from kinds(inner)
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "pattern":
                yield value
            elif key == "patternProperties":
                yield from value
            elif key == "type" and isinstance(value, str):
                yield _TYPES[value]
            elif key in _KEYWORDS:
                yield _KEYWORDS[key]
            yield from kinds(value)


def mistakes(values: dict[str, Any]) -> Iterator[str]:
    """What pydantic finds in a stack file."""
    try:
        Settings.model_validate(values)
    except ValidationError as error:
        yield from (one.get("ctx", {}).get("pattern", one["type"]) for one in error.errors())


def test_every_check_has_a_broken_stack_file() -> None:
    lines = told()
    found = dict(problems())
    assert len(found) > 30, "the checks are found in the file"
    assert [where for where, pattern in found.items() if not any(map(pattern.fullmatch, lines))] == []


def test_every_kind_of_value_has_a_broken_stack_file() -> None:
    broken = {mistake for values in BROKEN for mistake in mistakes(values)}
    assert set(kinds(Settings.model_json_schema())) - {"null"} - broken == set()
