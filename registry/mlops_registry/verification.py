"""A verification in three parts, each of which needs no more than it is given.

`fetch` has the bucket: it brings a version's model and its examples' inputs into a folder, checked. `score` has neither
bucket nor identity: it loads the model, confined, and writes what it predicts. `record` has the bucket: it compares
that with the recorded predictions, which no scorer ever saw. Owns `score`, and the files between the three; what is in
the bucket is the registry's (`registry`).
"""

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from .errors import BadInputError, IntegrityError, NotReadyError, ScorerError
from .manifest import Format, Record, Text, loads, parse
from .names import ModelName, VersionId
from .scorers import scorer_of
from .scorers.limits import LONGEST_ANSWER
from .scorers.lines import Answer, answer
from .scorers.lines import score as scored

MODEL, ROWS, REQUEST = "model", "rows.jsonl", "request.json"
PREDICTIONS, SCORE = "predictions.jsonl", "score.json"
_RECORD_LIMIT = 1 << 20


class Request(Record):
    """request.json, the last file that `fetch` writes.

    Attributes:
        rows: how many are to be scored.
        error: why the version is not what its manifest says; nothing is to be scored then.
    """

    model: ModelName
    version_id: VersionId
    format: Format | None
    rows: int = Field(ge=0)
    error: str | None = None


class Score(Record):
    """score.json, the last file that `score` writes.

    Attributes:
        predictions: how many there are.
        tools: versions of what scored.
        error: why the model is bad.
    """

    model: ModelName
    version_id: VersionId
    predictions: int = Field(ge=0)
    tools: dict[str, Text] = Field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Examples:
    """What examples.json holds: inputs, and what was recorded of them when the model was trained."""

    rows: list[dict[str, Any]]
    recorded: list[Answer]

    @classmethod
    def read(cls, data: bytes) -> "Examples":
        """Read examples.json.

        Raises:
            IntegrityError: it holds none.
        """
        try:
            examples = loads(data, "examples.json")["examples"]
            rows = [example["input"] for example in examples]
            recorded = [Answer(float(example["prediction"]), example.get("label")) for example in examples]
        except (BadInputError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"examples.json holds no examples that can be replayed ({error!r})") from None
        if not recorded:
            raise IntegrityError("examples.json holds no examples, so nothing can be replayed")
        return cls(rows, recorded)


def prepare(folder: Path) -> None:
    """Make a folder ready for a version; what an earlier attempt left there goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (REQUEST, ROWS):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / MODEL, ignore_errors=True)


def hand_over(folder: Path, request: Request, rows: Sequence[dict[str, Any]]) -> Request:
    """Write what `score` reads, request.json last."""
    with (folder / ROWS).open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
    _put(folder / REQUEST, request)
    return request


def waits(folder: Path, model: str, version_id: str) -> bool:
    """Whether a version was brought there whole, for `score`."""
    try:
        request = parse(Request, _bytes(folder / REQUEST), REQUEST)
    except BadInputError:
        return False
    return (request.model, request.version_id, request.error) == (model, version_id, None)


def score(source: Path, target: Path, *, wait: float = 0) -> Score:
    """Load the model that `fetch` left, and write what it predicts.

    Args:
        source: what `fetch` wrote.
        target: gets the predictions, and score.json last. A bad model is told there.
        wait: for how many seconds the request is waited for.

    Raises:
        NotReadyError: it did not come.
        ScorerError: it could not be tried, which says nothing about the model.
        UnconfinedError: the model cannot be confined here.
    """
    _await(source / REQUEST, wait, "fetch")
    request = parse(Request, _bytes(source / REQUEST), REQUEST)
    target.mkdir(parents=True, exist_ok=True)
    (target / SCORE).unlink(missing_ok=True)
    count, tools, error = 0, {}, request.error
    if error is None:
        scorer = scorer_of(request.format or "")
        tools = scorer.tools()
        try:
            with _opened(source / ROWS) as rows, (target / PREDICTIONS).open("wb") as predictions:
                for one in scored(scorer, source, (row.decode().rstrip("\n") for row in rows), in_all=True):
                    predictions.write(_line(one))
                    count += 1
        except ScorerError as failure:
            if not failure.definite:
                raise
            error = str(failure)
    told = Score(model=request.model, version_id=request.version_id, predictions=count, tools=tools, error=error)
    _put(target / SCORE, told)
    return told


def answers(folder: Path, model: str, version_id: str, expected: int, *, wait: float = 0) -> tuple[Score, list[Answer]]:
    """What `score` wrote about a version, none of which is believed to be well-formed.

    Args:
        folder: its target.
        model: of the version that is asked about.
        version_id: of the same.
        expected: how many predictions there have to be.
        wait: for how many seconds score.json is waited for.

    Raises:
        NotReadyError: it did not come.
        BadInputError: it is about another version, or not score.json.
        ScorerError: the predictions are none.
    """
    _await(folder / SCORE, wait, "score")
    told = parse(Score, _bytes(folder / SCORE), SCORE)
    if (told.model, told.version_id) != (model, version_id):
        raise BadInputError(
            f"{folder} holds the predictions of {told.model}/{told.version_id}, not those of {model}/{version_id}, so "
            "nothing was recorded: name the folder that was scored for it"
        )
    if told.error is not None:
        return told, []
    found: list[Answer] = []
    with _opened(folder / PREDICTIONS) as file:
        while line := file.readline(LONGEST_ANSWER + 1):
            if len(line) > LONGEST_ANSWER or len(found) == expected:
                raise ScorerError(f"{PREDICTIONS} holds more than {expected} predictions", definite=True)
            found.append(answer(line))
    if len(found) != expected:
        raise ScorerError(f"the scorer answered {len(found)} of {expected} rows", definite=True)
    return told, found


def _line(one: Answer) -> bytes:
    label = {} if one.label is None else {"label": one.label}
    return json.dumps({"prediction": one.prediction, **label}).encode() + b"\n"


def _put(path: Path, record: Record) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(record.json_bytes())
    partial.replace(path)


def _await(path: Path, seconds: float, step: str) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() >= end:
            waited = f" within {seconds:g} s" if seconds else ""
            raise NotReadyError(
                f"{path} is not there{waited}, so nothing was done: `mlops-registry {step}` writes it; look at what "
                "that step said"
            )
        time.sleep(min(0.1, max(0.0, end - time.monotonic())))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A regular file, and nothing that somebody put in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}), so nothing was done") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadInputError(f"{path} is no file, so nothing was done")
        yield file


def _bytes(path: Path) -> bytes:
    with _opened(path) as file:
        data = file.read(_RECORD_LIMIT + 1)
    if len(data) > _RECORD_LIMIT:
        raise BadInputError(f"{path} is larger than {_RECORD_LIMIT} bytes, so nothing was done")
    return data
