"""Scorers: one module a model format, each of which names the program that loads the model and replays rows.

A scorer is a program of the image that trained the model, so that what predicts is what trained: JSON Lines of row
objects on stdin, JSON Lines `{"prediction": p}` on stdout, in order, with a `"label"` where the model gives one. It
ends when its stdin does. Exit code 2: the model or a row is bad, and stays so. It runs confined (`process`), sees what
its module names and the model, and is spoken to by `lines`. A new format is a module with `TOLERANCE`,
`command(version)`, `visible()` and `tools()`, entered in `SCORERS`.
"""

from pathlib import Path
from typing import Protocol

from mlops_registry.errors import BadInputError

from . import h2o_mojo, tfjs_layers


class Scorer(Protocol):
    """What a format's module offers.

    Attributes:
        TOLERANCE: how far a replayed prediction may be from the recorded one.
    """

    TOLERANCE: float

    def command(self, version: Path) -> list[str]:
        """The program and its arguments for a version's local folder."""
        ...

    def visible(self) -> list[Path]:
        """Files and folders that the program needs, beside the system's programs and the model."""
        ...

    def tools(self) -> dict[str, str]:
        """Name and version of what scores."""
        ...


SCORERS: dict[str, Scorer] = {"h2o-mojo": h2o_mojo, "tfjs-layers": tfjs_layers}


def scorer_of(model_format: str) -> Scorer:
    """The scorer of a format.

    Raises:
        BadInputError: there is none.
    """
    try:
        return SCORERS[model_format]
    except KeyError:
        raise BadInputError(f"no scorer for format {model_format!r}; known: {', '.join(sorted(SCORERS))}") from None
