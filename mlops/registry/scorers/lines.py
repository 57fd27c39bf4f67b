"""Runs a scorer program: rows in, predictions out, streaming, in bounded memory."""

import json
import math
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from mlops.registry.errors import BadInputError, ScorerError, one_line
from mlops.registry.manifest import loads


class Answer(NamedTuple):
    """What a model says of a row; the label is None where it gives none."""

    prediction: float
    label: str | None = None


def score(command: list[str], rows: Iterable[dict[str, Any]]) -> Iterator[Answer]:
    """Score rows in order.

    Args:
        command: the program and its arguments.
        rows: JSON objects; read only as fast as the program takes them.

    Yields:
        One answer a row.

    Raises:
        ScorerError: the program failed or answered something else.
    """
    fed = _Feed(rows)
    answers = 0
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        except OSError as error:
            raise ScorerError(
                f"{command[0]} does not start ({error.strerror}), so the model cannot be loaded: install it"
            ) from None
        try:
            threading.Thread(target=fed.run, args=(process.stdin,), daemon=True).start()
            for line in process.stdout or ():
                yield _answer(line)
                answers += 1
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        if fed.failure:
            raise fed.failure
        if code != 0:
            stderr.seek(0)
            message = one_line((stderr.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1])
            raise ScorerError(f"the scorer ended with {code}: {message}", definite=code == 2)
    if answers != fed.rows:
        raise ScorerError(f"the scorer answered {answers} of {fed.rows} rows", definite=True)


class _Feed:
    """Writes the rows beside the reading, as either pipe may be full."""

    def __init__(self, rows: Iterable[dict[str, Any]]):
        self._source = rows
        self.rows = 0
        self.failure: BaseException | None = None

    def run(self, stdin: IO[bytes] | None) -> None:
        try:
            assert stdin  # noqa: S101 (a pipe was asked for)
            with stdin:
                for row in self._source:
                    stdin.write(json.dumps(row, allow_nan=False).encode() + b"\n")
                    self.rows += 1
        except BrokenPipeError:
            pass  # the program ended early; its exit code says why
        except (TypeError, ValueError) as error:
            self.failure = BadInputError(f"row {self.rows + 1} is no JSON object: {error}")
        except BaseException as error:  # noqa: BLE001 (raised again where the predictions are read)
            self.failure = error


def _answer(line: bytes) -> Answer:
    try:
        said = loads(line, "an answer of the scorer")
        value, label = said["prediction"], said.get("label")
    except (BadInputError, KeyError, TypeError, AttributeError):
        value = label = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ScorerError(
            f"the scorer answered {one_line(line.decode(errors='replace'))!r} instead of a prediction", definite=True
        )
    return Answer(float(value), None if label is None else str(label))
