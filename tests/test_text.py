"""Text of others for a terminal."""

import pytest

from mlops_registry.text import printable


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain Grüße, 日本語, a\N{NO-BREAK SPACE}b", "plain Grüße, 日本語, a\N{NO-BREAK SPACE}b"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\x00b\x7f", r"a\x00b\x7f"),
        ("one\ntwo\rthree\tfour", r"one\ntwo\rthree\tfour"),
        ("model\u202egnp.exe\u2066\u2069\u200f\u061c", r"model\u202egnp.exe\u2066\u2069\u200f\u061c"),
        ("zero\u200bwidth\ufeff\u2028", r"zero\u200bwidth\ufeff\u2028"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_commands_a_terminal_or_hides_is_an_escape(given: str, shown: str) -> None:
    assert printable(given) == shown
    assert printable(shown) == shown


def test_a_caller_keeps_the_line_breaks_of_a_text_of_lines() -> None:
    assert printable("one\n\ttwo\r\x1b", keep="\n\t") == "one\n\ttwo\\r\\x1b"
