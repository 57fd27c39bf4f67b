"""The text of a number: what YAML's numbers come to where a text is wanted."""

import math
from decimal import Decimal


def as_text(value: object) -> object:
    """A number, true or false as the text that YAML reads as it; anything else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return format(Decimal(str(value)), "f")
    return str(value) if isinstance(value, int | float) else value
