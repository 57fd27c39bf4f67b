"""What others wrote does not command the terminal, wherever the command prints it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import ROOT
from mlops.cli import output

HOSTILE = "a\x1b[2J\x1b]0;title\x07\x00\x9b31m\u202egnp.exe\x7f\rb"
RAW = ("\x1b[2J", "\x1b]", "\x07", "\x00", "\x9b", "\u202e", "\x7f", "\r")


def on_a_terminal(*command: str) -> str:
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux tells that the other side is closed
                piece = b""
            if not piece:
                break
            written += piece
    os.close(ours)
    assert process.returncode in (0, 2)
    # The terminal itself writes a line break so.
    return written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    "statement",
    [
        "out.print(text, markup=False)",
        "err.print(f'[bold]{escape(text)}[/bold]')",
        "table(['column'], [[text], ['other']])",
        "complain(text)",
        "print_json({text: [text]})",
        "out.print_json(json.dumps({'key': text}, ensure_ascii=False))",
        "print_log(text)",
        "with err.status(text): pass",
    ],
)
def test_no_way_of_printing_passes_a_control_character_on(statement: str) -> None:
    script = (
        f"import json; from rich.markup import escape; from mlops.cli.output import *\ntext = {HOSTILE!r}\n{statement}"
    )
    written = on_a_terminal(sys.executable, "-c", script)
    assert "gnp.exe" in written
    # A progress line of rich's own returns to the line's beginning.
    raw = RAW[:-1] if "status" in statement else RAW
    assert [one for one in raw if one in written] == []


def test_errors_and_usage_show_what_was_given_as_escapes(tmp_path: Path) -> None:
    mlops = str(Path(sys.executable).with_name("mlops"))
    hostile = HOSTILE.replace("\x00", "")
    for arguments in (["review", str(tmp_path / hostile)], ["plan", "--stack", hostile], ["plan", hostile], [hostile]):
        written = on_a_terminal(mlops, *arguments)
        assert "gnp.exe" in written, arguments
        assert [one for one in RAW[:-1] if one in written] == [], arguments


def test_a_tasks_output_is_raw_in_a_pipe_and_readable_on_a_terminal() -> None:
    script = "from mlops.cli.output import print_log; print_log('\\x1b[31mred\\x1b[0m\\t1%\\r2%\\r\\n\\x1b[2Jdone\\n')"
    piped = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True).stdout
    assert piped == b"\x1b[31mred\x1b[0m\t1%\r2%\r\n\x1b[2Jdone\n"
    assert on_a_terminal(sys.executable, "-c", script) == "red\t1%\n2%\n\\x1b[2Jdone\n"


def test_a_credential_in_an_address_that_was_recorded_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs and versions of earlier releases have such addresses."""
    address = "https://host/x?page=1&access_token=hunter2"
    output.table(["parameter", "value"], [["-p data_url", address]])
    output.print_json({"parameters": {"data_url": address}})
    output.out.print(address)
    output.out.print_json(json.dumps({"data": {"uri": address}}))
    output.err.print(address)
    output.complain(f"{address} did not answer")
    told = capsys.readouterr()
    assert "hunter2" not in told.out + told.err
    assert (told.out + told.err).count("page=1&access_token=[secret]") == 6


def test_json_keeps_values_whose_keys_only_sound_like_a_credential(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"levels": {"nomad-credential": "mandatory", "token": "advisory"}}
    output.print_json(value)
    assert json.loads(capsys.readouterr().out) == value
