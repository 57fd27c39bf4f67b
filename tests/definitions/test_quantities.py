"""Amounts of Kubernetes and of Spark."""

from fractions import Fraction

import pytest

from definitions.quantities import jvm_mebibytes, quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2", 2),
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("1.001", Fraction(1001, 1000)),
        ("1e3", 1000),
        ("100n", Fraction(1, 10**7)),
        ("1Ki", 1024),
        ("2Gi", 2 * 2**30),
        ("2G", 2 * 10**9),
        ("1Ei", 2**60),
    ],
)
def test_a_quantity_is_read_exactly(text: str, amount: Fraction) -> None:
    assert quantity(text) == amount


@pytest.mark.parametrize("text", ["", "much", "2g", "1K", "-1", "1 Gi", "1Gib", "Gi", "1e999", "nan", "{{x}}"])
def test_what_is_not_a_quantity_is_none(text: str) -> None:
    assert quantity(text) is None


@pytest.mark.parametrize(("text", "amount"), [("512m", 512), ("2g", 2048), ("2GB", 2048), ("1t", 2**20), ("7", 7)])
def test_the_memory_of_a_jvm(text: str, amount: int) -> None:
    assert jvm_mebibytes(text) == amount


@pytest.mark.parametrize("text", ["", "1.5g", "2Gi", "-1g", "g"])
def test_what_is_not_the_memory_of_a_jvm_is_none(text: str) -> None:
    assert jvm_mebibytes(text) is None
