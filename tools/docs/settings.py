"""The generated references of settings: the JSON Schema for editors, and the table of all keys."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.settings.reading import PROJECT
from infra.settings.tree import Settings

_STAND_IN = "x-stand-in"
_ENCRYPTED = {"type": "object", "properties": {"secure": {"type": "string"}}, "required": ["secure"]}
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}

_HEADER = """\
<!-- Written by: python -m tools.docs -->
# Settings of a stack

Every key of `stacks/Pulumi.<stack>.yaml` below `config`, without its namespace `hybrid-mlops:`. `<name>` is a name of
your choosing. A key below one that the stack leaves out is not needed either. An editor completes and checks the file
by the schema in its first line, [stack.schema.json](stack.schema.json), which also has the form of each text.

**set** in the column *default* means that only you can know the value: it stands in no stack file, and Pulumi refuses
the stack without it. Set it once a stack, for example

    pulumi config set --path hybrid-mlops:gcp.project example-project
    pulumi config set --path --secret hybrid-mlops:salesforce.client_secret

Where a stack is read without Pulumi (`mlops plan`, tests), a stand-in that is obviously none takes its place.
"""


def schema() -> str:
    """The JSON Schema of a stack file, as text."""
    properties = Settings.model_json_schema(ref_template="#/$defs/{model}")
    definitions = properties.pop("$defs")
    for definition in definitions.values():
        _for_a_file(definition)
    return (
        json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "A stack file of hybrid-mlops",
                "type": "object",
                "required": ["config"],
                "properties": {
                    "config": {
                        "type": "object",
                        "description": "The stack's settings. Other namespaces are Pulumi's and its providers'.",
                        "properties": {f"{PROJECT}:{k}": v for k, v in properties["properties"].items()},
                        "required": [f"{PROJECT}:{k}" for k in properties["required"]],
                        "patternProperties": {f"^(?!{PROJECT}:).*:": {}},
                        "additionalProperties": False,
                    }
                },
                "$defs": definitions,
            },
            indent=2,
        )
        + "\n"
    )


def table() -> str:
    """The page with all keys, as Markdown."""
    whole = Settings.model_json_schema()
    parts = [_HEADER]
    for name, field in whole["properties"].items():
        needed = " Needed." if name in whole["required"] else ""
        parts.append(f"\n## {name}\n\n{_description(field, whole)}{needed}\n")
        rows = list(_rows_below(field, name, whole))
        parts.append("\n| key | type | default | |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _for_a_file(definition: dict[str, Any]) -> None:
    """What a stack file is allowed that the settings of a program are not: values left out, and encrypted ones."""
    for name, field in definition.get("properties", {}).items():
        if _STAND_IN in field:
            definition["required"].remove(name)
        if field.get("format") == "password":
            text = {key: field.pop(key) for key in ("type", "format", "writeOnly") if key in field}
            field["anyOf"] = [text, _ENCRYPTED]
    if not definition.get("required", True):
        del definition["required"]


def _rows(model: Mapping[str, Any], path: str, whole: Mapping[str, Any]) -> Iterator[str]:
    for name, field in model.get("properties", {}).items():
        key = f"{path}.{name}"
        cells = [f"`{key}`", _type(field, whole), _default(name, field, model), _description(field, whole)]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield from _rows_below(field, key, whole)


def _rows_below(field: Mapping[str, Any], key: str, whole: Mapping[str, Any]) -> Iterator[str]:
    for form in _forms(field, whole):
        if "properties" in form:
            yield from _rows(form, key, whole)
        elif form.get("type") == "array":
            yield from _rows_below(form["items"], f"{key}[]", whole)
        elif form.get("type") == "object":
            yield from _rows_below(_values(form), f"{key}.<name>", whole)


def _type(field: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    return ", or ".join(_form(form, whole) for form in _forms(field, whole))


def _form(form: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    if "const" in form or "enum" in form:
        return ", ".join(f"`{value}`" for value in form.get("enum", [form.get("const")]))
    if form.get("format") == "password":
        return "secret"
    kind = form["type"]
    if kind == "array":
        return f"list of {_type(form['items'], whole)}"
    if kind == "object":
        return "keys below" if "properties" in form else f"by name: {_type(_values(form), whole)}"
    least = form.get("minimum", form.get("exclusiveMinimum"))
    most = form.get("maximum")
    between = f", {least} to {most}" if most is not None else f", at least {least}" if least is not None else ""
    return _TYPES[kind] + between


def _forms(field: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives of a value, `null` left out: a key that is not set is not written."""
    field = _resolved(field, whole)
    alternatives = field.get("anyOf") or field.get("oneOf")
    if not alternatives:
        return [] if field.get("type") == "null" else [field]
    return [form for alternative in alternatives for form in _forms(alternative, whole)]


def _resolved(field: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """A field, or where it may also be null or is told elsewhere, what it is then."""
    if "$ref" in field:
        return whole["$defs"][field["$ref"].rpartition("/")[2]]
    others = [form for form in field.get("anyOf", []) if form.get("type") != "null"]
    return _resolved(others[0], whole) if len(others) == 1 else field


def _values(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a map holds: pydantic tells it by the pattern of the names."""
    patterns = form.get("patternProperties", {})
    return next(iter(patterns.values()), form.get("additionalProperties", {}))


def _default(name: str, field: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    if _STAND_IN in field or field.get("format") == "password":
        return "**set**"
    if name in model.get("required", []):
        return "needed"
    default = field.get("default")
    return "" if default in (None, {}, [], ()) else f"`{json.dumps(default)}`"


def _description(field: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    text = field.get("description") or _resolved(field, whole).get("description", "")
    # Outside of code, what stands in angle brackets would be taken for HTML.
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(text.split("`")))
