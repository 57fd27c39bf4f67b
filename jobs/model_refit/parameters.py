"""Names and defaults of the pipeline's parameters, from parameters.yaml, the one place they are written."""

from pathlib import Path

from definitions import documents


def _defaults() -> dict[str, str | None]:
    declared = documents.load((Path(__file__).parent / "parameters.yaml").read_text())["parameters"]
    return {name: None if one.get("required") else str(one.get("default", "")) for name, one in declared.items()}


DEFAULTS = _defaults()
"""Default by name, as text: None where a run must give it, empty where the step chooses."""
