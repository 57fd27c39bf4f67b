"""The registry's Python API: list, show, verify, promote, predict.

Owns what the bucket's layout means. What a training leaves behind is brought in by `storing`; which program loads a
model is told by `scorers`.
"""

import builtins
import io
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from . import names, storing, verification
from .bucket import Bucket, Limited
from .errors import (
    BadInputError,
    IntegrityError,
    LostRaceError,
    NotFoundError,
    NotVerifiedError,
    RegistryError,
    ScorerError,
    TooLargeError,
)
from .listing import Listing
from .manifest import EXAMPLES, Alias, File, Manifest, Verification, VersionDetails, VersionSummary, now
from .records import Records
from .rows import Row
from .scorers import scorer_of
from .scorers.lines import score

_TIME = "%Y%m%dT%H%M%S.%fZ"


class Registry:
    """Model versions in a bucket.

    A version or alias is named by its id, or as `<model>/<id>`, which saves looking for the model.

    Args:
        bucket_path: `gs://<bucket>[/<prefix>]`.
        deadline: for how many seconds one request to the bucket is repeated; None: `MLOPS_REGISTRY_DEADLINE`, or 300.
    """

    def __init__(self, bucket_path: str, *, deadline: float | None = None):
        self.path = names.BucketPath.parse(bucket_path)
        self.bucket = Bucket(self.path.bucket, deadline)
        self._records = Records(self.bucket, self.path)

    def store(self, model: str, version_id: str, run_dir: Path, origin: storing.Origin) -> Manifest:
        """Store a finished training; see `storing.store`."""
        return storing.store(self.bucket, self.path, model, version_id, run_dir, origin)

    def list(self, model: str | None = None) -> list[VersionSummary]:
        """All versions, or a model's, by model and age, oldest first; from one listing where it says enough."""
        return self._listing(model, versions=True).versions()

    def aliases(self, model: str | None = None) -> builtins.list[Alias]:
        """All aliases that are followed, or a model's."""
        return self._listing(model, versions=False).aliases()

    def show(self, version: str) -> VersionDetails:
        """A version's manifest, its verifications and the aliases that point to it.

        Raises:
            NotFoundError: there is no such version.
        """
        model, version_id = self._resolve(version)
        manifest = self._records.manifest(model, version_id)
        verifications = tuple(self._records.verifications(model, version_id))
        aliases = tuple(alias.alias for alias in self.aliases(model) if alias.version_id == version_id)
        return VersionDetails(manifest=manifest, verifications=verifications, aliases=aliases)

    def fetch(self, version: str, folder: Path) -> verification.Request:
        """Bring a version's model and its examples' inputs into a folder, for `verification.score`.

        Every file of the version is asked for, and its size and SHA-256 are checked; the request is there once all are
        right. That one is not is said in the request, and recorded by `record`.
        """
        model, version_id = self._resolve(version)
        verification.prepare(folder)
        facts: dict[str, Any] = {"model": model, "version_id": version_id, "format": None, "rows": 0}
        rows: Sequence[dict[str, Any]] = ()
        try:
            manifest = self._records.manifest(model, version_id)
            rows = self._fetched(manifest, folder).rows
            facts |= {"format": manifest.format, "rows": len(rows)}
        except IntegrityError as error:
            facts["error"] = str(error)
        return verification.hand_over(folder, verification.Request(**facts), rows)

    def record(self, version: str, scored: Path, *, runner: str = "command", wait: float = 0) -> Verification:
        """Compare what `verification.score` wrote with what training recorded, and record the outcome.

        Args:
            version: which.
            scored: where it was written.
            runner: what runs this, for the record.
            wait: for how many seconds it is waited for.
        """
        model, version_id = self._resolve(version)
        facts = _facts()
        with _told_in(facts):
            manifest = self._records.manifest(model, version_id)
            examples = self._examples(manifest)
            _compare(facts, manifest, examples, scored, wait)
        return self._record(model, version_id, facts, runner)

    def verify(self, version: str, *, runner: str = "command") -> Verification:
        """Download a version, check every size and SHA-256, replay its examples, and record the outcome beside it.

        Args:
            version: which.
            runner: what runs this, for the record.

        Returns:
            The verification, passed or failed. What says nothing about the version (no network, no Node) raises
            instead and records nothing.
        """
        model, version_id = self._resolve(version)
        facts = _facts()
        with _temporary(version_id) as folder, _told_in(facts):
            manifest = self._records.manifest(model, version_id)
            facts["format"] = manifest.format
            fetched, scored = folder / "version", folder / "scored"
            verification.prepare(fetched)
            examples = self._fetched(manifest, fetched)
            request = verification.Request(
                model=model, version_id=version_id, format=manifest.format, rows=len(examples.rows)
            )
            verification.hand_over(fetched, request, examples.rows)
            verification.score(fetched, scored)
            _compare(facts, manifest, examples, scored, 0)
        return self._record(model, version_id, facts, runner)

    def promote(self, version: str, alias: str) -> Alias:
        """Point an alias at a version whose newest verification passed.

        Raises:
            NotVerifiedError: it did not, or there is none.
            LostRaceError: somebody else moved the alias meanwhile; it is left as they set it.
        """
        names.alias_name(alias)
        model, version_id = self._resolve(version)
        name = self.path.alias(model, alias)
        # Read before the checks: a move by somebody else from here on fails the write.
        found = self.bucket.read(name)
        self._records.manifest(model, version_id)
        newest = self._records.newest(model, version_id)
        if newest is None or not newest.passed:
            why = f"failed ({newest.message})" if newest else "is missing"
            raise NotVerifiedError(
                f"{version_id} cannot become {alias!r}: its newest verification {why}; verify it first"
            )
        record = Alias(model=model, alias=alias, version_id=version_id, promoted=now())
        try:
            self.bucket.replace(name, record.json_bytes(), found[1] if found else 0, record.summary())
        except LostRaceError:
            raise LostRaceError(
                f"alias {alias!r} of {model} was moved by somebody else at the same time, so it was not moved to "
                f"{version_id}: look where it points now, then promote again"
            ) from None
        return record

    def predict(self, version: str, rows: Iterable[Row | dict[str, Any]]) -> Iterator[float]:
        """Score rows with a version, or with the version an alias points to, streaming.

        Args:
            version: which version or alias.
            rows: raw column values; see `rows.read`.

        Yields:
            One prediction a row, in order.
        """
        manifest = self._records.manifest(*self._resolve(version))
        scorer = scorer_of(manifest.format)
        with _temporary(manifest.version_id) as folder:
            self._keep_model(manifest, folder)
            yield from (answer.prediction for answer in score(scorer, folder, _encoded(rows)))

    def _listing(self, model: str | None, *, versions: bool) -> Listing:
        return Listing(self.bucket, self.path, self._records, model, versions=versions)

    def _resolve(self, version: str) -> tuple[str, str]:
        """The model and version id that a version's or an alias's name means."""
        model, _, name = version.rpartition("/")
        is_alias = bool(re.fullmatch(names.ALIAS, name))
        if model:
            names.model_name(model)
        if not is_alias:
            names.version_id(name)
            if model:
                return model, name
        models = (
            [model]
            if model
            else [folder for folder in self.bucket.folders(self.path.prefix) if re.fullmatch(names.MODEL, folder)]
        )
        found = [
            folder
            for folder in models
            if self.bucket.read(
                self.path.alias(folder, name) if is_alias else self.path.version(folder, name, names.MANIFEST)
            )
        ]
        if not found:
            self.bucket.check()
            kind = "alias" if is_alias else "version"
            raise NotFoundError(f"no {kind} {version!r} in {self.path}: list the versions to see what there is")
        if len(found) > 1:
            raise BadInputError(
                f"{version!r} is ambiguous: write {' or '.join(f'{folder}/{name}' for folder in found)}"
            )
        return found[0], self._records.followed(found[0], name) if is_alias else name

    def _fetched(self, manifest: Manifest, folder: Path) -> verification.Examples:
        """Check all files of a version, keep its model in a folder, and give its examples."""
        scorer_of(manifest.format)
        self._keep_model(manifest, folder)
        for file in manifest.files:
            if file.path != EXAMPLES and not _of_model(file):
                self._download(manifest, file, None)
        return self._examples(manifest)

    def _keep_model(self, manifest: Manifest, folder: Path) -> None:
        for file in filter(_of_model, manifest.files):
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as opened:
                self._download(manifest, file, opened)

    def _examples(self, manifest: Manifest) -> verification.Examples:
        (file,) = (file for file in manifest.files if file.path == EXAMPLES)
        content = io.BytesIO()
        self._download(manifest, file, content)
        return verification.Examples.read(content.getvalue())

    def _download(self, manifest: Manifest, file: File, target: IO[bytes] | None) -> None:
        """Write a file of a version, or only check it: its size and SHA-256 must be what the manifest says."""
        name, what = (
            self.path.version(manifest.model, manifest.version_id, file.path),
            f"{file.path} of {manifest.version_id}",
        )
        wrong = ""
        for _ in range(2):  # bytes lost on the way come right the second time
            came = Limited(file.size, target)
            try:
                if not self.bucket.download(name, came):
                    raise IntegrityError(f"{what} is missing in {self.path}")
            except TooLargeError:
                pass
            if (came.size, came.sha256) == (file.size, file.sha256):
                return
            wrong = "SHA-256" if came.size == file.size else "size"
        raise IntegrityError(f"{what} was changed: its {wrong} is not the manifest's")

    def _record(self, model: str, version_id: str, facts: dict[str, Any], runner: str) -> Verification:
        time = now()
        passed = facts["message"] is None
        record = Verification(model=model, version_id=version_id, time=time, runner=runner, passed=passed, **facts)
        name = self.path.version(model, version_id, f"{names.VERIFICATIONS}/{time:{_TIME}}.json")
        self.bucket.create(name, record.json_bytes(), record.summary())
        return record


def _encoded(rows: Iterable[Row | dict[str, Any]]) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        try:
            yield row.json if isinstance(row, Row) else json.dumps(row, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadInputError(f"row {number} is no JSON object: {error}") from None


def _facts() -> dict[str, Any]:
    """Of a verification that has not begun."""
    facts = {"format": None, "examples": 0, "max_difference": None, "message": None}
    return facts | {"tolerance": 0.0, "tools": {}}


@contextmanager
def _told_in(facts: dict[str, Any]) -> Iterator[None]:
    """What goes wrong because of the version becomes a fact of its verification; all else is raised."""
    try:
        yield
    except IntegrityError as error:
        facts["message"] = str(error)
    except ScorerError as error:
        if not error.definite:
            raise
        facts["message"] = str(error)


def _compare(
    facts: dict[str, Any], manifest: Manifest, examples: verification.Examples, scored: Path, wait: float
) -> None:
    """Add how far each example is from its recorded prediction, and whether its label is the same."""
    facts["format"] = manifest.format
    facts["tolerance"] = tolerance = scorer_of(manifest.format).TOLERANCE
    told, found = verification.answers(scored, manifest.model, manifest.version_id, len(examples.recorded), wait=wait)
    facts["tools"], facts["message"] = told.tools, told.error
    if told.error is not None:
        return
    pairs = list(zip(examples.recorded, found, strict=True))
    differences = [abs(was.prediction - now.prediction) for was, now in pairs]
    others = [was.label is not None and was.label != now.label for was, now in pairs]
    worse = sum(difference > tolerance or other for difference, other in zip(differences, others, strict=True))
    facts |= {"examples": len(pairs), "max_difference": max(differences), "differing": worse}
    if worse:
        labels = f" or in their label ({sum(others)})" if any(others) else ""
        facts["message"] = f"{worse} of {len(pairs)} examples differ by more than {tolerance:g}{labels}"


@contextmanager
def _temporary(version_id: str) -> Iterator[Path]:
    """A folder for a version's files."""
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory(prefix="mlops-registry-") as folder:
            yield Path(folder)
    except OSError as error:
        raise RegistryError(
            f"{version_id} cannot be kept in {folder} ({error.strerror}): make room, or set TMPDIR"
        ) from None


def _of_model(file: File) -> bool:
    return file.path.startswith("model/")
