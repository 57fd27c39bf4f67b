"""Putting values together that resources have once they are made.

Owns what happens where a resource was never made. `pulumi destroy --run-program` runs the program also for what is left
of a stack: a first update that was interrupted, or a destroy. What such a resource would have is then None, of which
nothing can be put together; the program must run to its end all the same.
"""

from collections.abc import Callable
from typing import TypeVar

import pulumi

T = TypeVar("T")
R = TypeVar("R")


def made(output: pulumi.Output[T], function: Callable[[T], R]) -> pulumi.Output[R]:
    """`Output.apply` for a value that is there; None where its resource was never made."""

    def apply(value: T | None) -> R | None:
        return None if value is None else function(value)

    return output.apply(apply)  # pyright: ignore[reportReturnType]  as of every output of a resource


def concat(*parts: pulumi.Input[str]) -> pulumi.Output[str]:
    """`Output.concat`; None where the resource of a part was never made."""

    def join(found: list[str | None]) -> str | None:
        return None if None in found else "".join(map(str, found))

    return pulumi.Output.all(*parts).apply(join)  # pyright: ignore[reportReturnType, reportArgumentType]
