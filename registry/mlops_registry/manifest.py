"""What the registry writes (manifest, verification, alias) and reads (training.json), as frozen pydantic models.

The manifest is the whole truth about a version and never changes. Summaries, which listings show, are copied from it
and from the verifications into the objects' custom metadata, so that a listing needs no read a version.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from .errors import BadInputError
from .names import FORMAT, AliasName, FilePath, ModelName, VersionId

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Format = Annotated[str, StringConstraints(pattern=rf"^{FORMAT}$")]
_PRINTED = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, StringConstraints(max_length=2048, pattern=_PRINTED)]
# An address has 2,048 characters where a run gives it, and up to three times as many as a training records it.
Address = Annotated[str, StringConstraints(max_length=8192, pattern=_PRINTED)]
Lane = Literal["nomad", "argo"]
EXAMPLES = "examples.json"
Scalar = bool | int | float | str | None


class Record(BaseModel):
    """Base of everything here: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    def json_bytes(self) -> bytes:
        """The one serialisation: same record, same bytes."""
        data = self.model_dump(mode="json", by_alias=True)
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


class File(Record):
    """One stored file: path inside the version, size in bytes, SHA-256."""

    path: FilePath
    size: int = Field(ge=0)
    sha256: Sha256


class Column(Record):
    """One column of the data."""

    name: Text
    type: Text


class Data(Record):
    """The data trained on.

    Attributes:
        uri: where it was read.
        generation: of the object, where it came from a bucket.
        sha256: of the data as read.
        rows: how many.
        schema_: its columns, in order (`schema` in JSON).
    """

    uri: Address
    generation: Text | None = None
    sha256: Sha256
    rows: int = Field(ge=0)
    schema_: tuple[Column, ...] = Field(alias="schema")


class Code(Record):
    """The commit that ran, and whether the working tree differed from it; None where unknown."""

    commit: Text | None = None
    dirty: bool | None = None


class Engine(Record):
    """Which run made the version: the dispatched job or workflow, and the allocation or pod."""

    run: Text
    allocation: Text


def _files_fit(files: tuple[File, ...]) -> None:
    paths = {file.path for file in files}
    if len(paths) != len(files):
        raise ValueError("a file is listed twice")
    for path in paths:
        parents = {path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)}
        if parents & paths:
            raise ValueError(f"{path} lies inside another file")
    for needed in (EXAMPLES, "metrics.json"):
        if needed not in paths:
            raise ValueError(f"{needed} is not among the files")
    if not any(path.startswith("model/") for path in paths):
        raise ValueError("no file of model/ is among the files")


class Training(Record):
    """training.json, the last file a training writes: what ran and what is to be stored.

    Attributes:
        format: names the scorer that can load the model.
        parameters: all of them, typed, defaults included.
        seed: the seed used.
        seed_source: whether somebody chose it or the allocation id did.
        data: what was trained on.
        code: what ran.
        tools: name and version of each tool that shapes the model.
        model_digest: SHA-256 of the canonical model, without timestamps.
        files: every file to store.
        parents: versions that this one was made from.
    """

    format: Format
    parameters: dict[str, Scalar]
    seed: int | None
    seed_source: Literal["parameter", "allocation"] | None = None
    data: Data
    code: Code = Code()
    tools: dict[str, Text] = {}
    model_digest: Sha256
    files: tuple[File, ...]
    parents: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        _files_fit(self.files)
        return self


class Manifest(Training):
    """manifest.json: training.json's facts, and who made which version where and when.

    A version exists if and only if its manifest does. It is written last and never changes.

    Attributes:
        manifest_version: of this schema.
        model: the pipeline's name.
        version_id: `<name>_v<model version>_<run id>`.
        created: when training ended (UTC).
        lane: the engine's kind.
        engine: the run.
        images: container images that ran, by content hash.
        metrics: metrics.json, whole.
    """

    manifest_version: Literal[1] = 1
    model: ModelName
    version_id: VersionId
    created: AwareDatetime
    lane: Lane
    engine: Engine
    images: tuple[Text, ...] = ()
    metrics: dict[str, JsonValue]

    def summary(self) -> dict[str, str]:
        """Custom metadata of the manifest object: what a listing shows."""
        return _strings(
            created=self.created.isoformat(),
            lane=self.lane,
            format=self.format,
            auc=_metric(self.metrics, "test"),
            baseline_auc=_metric(self.metrics, "baseline"),
            baseline=_of(self.metrics, "baseline", "name"),
            trial=_of(self.metrics, "training", "trial"),
            trials=_of(self.metrics, "training", "trials"),
            seed=self.seed,
            model_digest=self.model_digest,
        )


class Verification(Record):
    """One verification of a version; the newest counts.

    Attributes:
        passed: every file has its SHA-256 and every replayed prediction is within the tolerance.
        examples: how many were replayed.
        differing: how many of them differ by more than the tolerance, or in their label; None if none was replayed.
        max_difference: the largest difference between a recorded and a replayed prediction; None if none was replayed.
        tolerance: what was allowed.
        time: when it was verified (UTC).
        tools: versions of what replayed.
        runner: what ran it: an engine's run, or `command`.
        message: why it failed.
    """

    model: ModelName
    version_id: VersionId
    format: Format | None
    passed: bool
    examples: int = Field(ge=0)
    differing: int | None = None
    max_difference: float | None
    tolerance: float
    time: AwareDatetime
    tools: dict[str, Text] = {}
    runner: Text
    message: str | None = None

    def summary(self) -> dict[str, str]:
        """Custom metadata of the verification object."""
        return {"passed": json.dumps(self.passed)} | _strings(examples=self.examples, differing=self.differing)


class Alias(Record):
    """A name that points to a verified version and can be moved."""

    model: ModelName
    alias: AliasName
    version_id: VersionId
    promoted: AwareDatetime

    def summary(self) -> dict[str, str]:
        """Custom metadata of the alias object."""
        return self.model_dump() | {"promoted": self.promoted.isoformat()}


class VersionSummary(Record):
    """A version as a listing shows it, read from custom metadata alone.

    Attributes:
        auc: of the model on the test part.
        baseline_auc: of the simpler model that the same run trained to compare with; `baseline` is its name.
        trial: number of the trial that won, from 0, where several were trained; `trials` is how many.
        examples: replayed by the newest verification; `differing` of them did not predict the same.
    """

    model: ModelName
    version_id: VersionId
    created: AwareDatetime
    lane: Lane
    format: Format
    auc: float | None = None
    baseline_auc: float | None = None
    baseline: Text | None = None
    trial: int | None = None
    trials: int | None = None
    seed: int | None = None
    model_digest: Sha256
    verified: Literal["passed", "failed"] | None = None
    verified_at: AwareDatetime | None = None
    examples: int | None = None
    differing: int | None = None
    aliases: tuple[AliasName, ...] = ()

    @property
    def verdict(self) -> str:
        """What the newest verification said, in words; a dash where there is none."""
        if self.verified is None:
            return "-"
        counted = None if self.differing is None else f"{self.differing} of {self.examples} examples differ"
        if self.verified == "passed":
            return counted or "passed"
        return f"FAILED: {counted}" if counted else "FAILED"


class VersionDetails(Record):
    """A version with its verifications, oldest first, and the aliases that point to it."""

    manifest: Manifest
    verifications: tuple[Verification, ...]
    aliases: tuple[AliasName, ...]


AnyRecord = TypeVar("AnyRecord", bound=Record)


def loads(data: bytes | str, what: str) -> Any:
    """Parse JSON strictly: UTF-8, no NaN.

    Raises:
        BadInputError: it is not that.
    """

    def refuse(token: str) -> None:
        raise ValueError(f"{token} is not JSON")

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{what} is not valid JSON: {error}") from None


def parse(record: type[AnyRecord], data: bytes, what: str) -> AnyRecord:
    """Parse and validate a record.

    Raises:
        BadInputError: with the first problem and its place.
    """
    return validated(record, loads(data, what), what)


def validated(record: type[AnyRecord], value: object, what: str) -> AnyRecord:
    """Validate a record.

    Raises:
        BadInputError: with the first problem and its place.
    """
    try:
        return record.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{what} is not valid: {place + ': ' if place else ''}{first['msg']}") from None


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def _of(metrics: dict[str, JsonValue], part: str, name: str) -> JsonValue:
    values = metrics.get(part)
    return values.get(name) if isinstance(values, dict) else None


def _metric(metrics: dict[str, JsonValue], part: str) -> float | None:
    auc = _of(metrics, part, "auc")
    return float(auc) if isinstance(auc, int | float) else None


def _strings(**values: object) -> dict[str, str]:
    return {key: str(value) for key, value in values.items() if value is not None}
