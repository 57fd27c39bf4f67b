"""The generated references of settings: the JSON Schema for editors, and the table of all keys.

`python -m infra.settings.reference` writes both.
"""

import json

from infra.settings.reading import PROJECT, ROOT
from infra.settings.tree import Settings

SCHEMA = ROOT / "docs" / "reference" / "stack.schema.json"


def schema() -> str:
    """The JSON Schema of a stack file, as text."""
    properties = Settings.model_json_schema(ref_template="#/$defs/{model}")
    definitions = properties.pop("$defs")
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


if __name__ == "__main__":
    SCHEMA.parent.mkdir(parents=True, exist_ok=True)
    SCHEMA.write_text(schema(), encoding="utf-8")
