"""The GBM's parameters: names, types, ranges, defaults, and the values that a search tries.

Owns: what a trial's parameters are, given what was asked for, the seed and the trial's number. Deliberately not: H2O;
the names here are H2O's own, so they pass through unchanged.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from errors import InputError

Number = int | float


@dataclass(frozen=True)
class Parameter:
    """One parameter of the GBM: its type, closed range, default, and the values trials after the first draw from."""

    name: str
    type: type[int] | type[float]
    minimum: Number
    maximum: Number
    default: Number
    description: str
    grid: tuple[Number, ...] = ()

    kinds: ClassVar = {int: "a whole number", float: "a number"}

    @property
    def option(self) -> str:
        """The command line's spelling."""
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Number:
        """Turn the text of an option into a value.

        Raises:
          InputError: The text is not of the type, or out of range.
        """
        try:
            value = self.type(text)
        except ValueError:
            value = None
        if value is None or not self.minimum <= value <= self.maximum:
            wanted = f"{self.kinds[self.type]} from {self.minimum} to {self.maximum}"
            raise InputError(f"{self.option}={text!r}: must be {wanted}; nothing was trained")
        return value


PARAMETERS = (
    Parameter("ntrees", int, 1, 5000, 500, "most trees to build; early stopping may build fewer"),
    Parameter("max_depth", int, 1, 30, 4, "deepest a tree may grow", (3, 4, 5, 6)),
    Parameter("min_rows", float, 1, 1e9, 20, "fewest (weighted) rows in a leaf", (5, 10, 20, 40)),
    Parameter("learn_rate", float, 1e-4, 1, 0.03, "shrinkage of each tree", (0.02, 0.03, 0.05, 0.08)),
    Parameter("sample_rate", float, 1e-3, 1, 0.7, "share of rows a tree sees", (0.6, 0.7, 0.8, 0.9)),
    Parameter("col_sample_rate", float, 1e-3, 1, 0.4, "share of columns a split sees", (0.3, 0.4, 0.5, 0.8)),
    Parameter("stopping_rounds", int, 0, 100, 5, "scorings without progress on validation before it stops; 0: never"),
    Parameter("stopping_tolerance", float, 0, 1, 1e-3, "relative progress that counts"),
    Parameter(
        "score_tree_interval", int, 1, 1000, 10, "trees between two scorings; fixed, so that stopping is reproducible"
    ),
)


def choose(asked: dict[str, str], seed: int, trial: int) -> dict[str, Number]:
    """Fix a trial's parameters: what was asked for, then (from trial 1 on) a draw from the grid, then the default.

    The draw depends on seed, trial and name only, so trials can run anywhere, in any order, and again.

    Raises:
      InputError: A value that was asked for is not one.
    """
    chosen = {}
    for parameter in PARAMETERS:
        text = asked.get(parameter.name) or ""
        if text:
            chosen[parameter.name] = parameter.parse(text)
        elif trial and parameter.grid:
            draw = hashlib.sha256(f"{seed}/{trial}/{parameter.name}".encode()).digest()
            chosen[parameter.name] = parameter.grid[int.from_bytes(draw) % len(parameter.grid)]
        else:
            chosen[parameter.name] = parameter.default
    return chosen
