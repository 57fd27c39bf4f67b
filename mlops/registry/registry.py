"""The registry's Python API: list, show, verify, promote, predict.

Owns what the bucket's layout means. What a training leaves behind is brought in by `storing`; which program loads a
model is told by `scorers`.
"""

import builtins
import collections
import hashlib
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from . import names, storing
from .bucket import Bucket
from .errors import (
    BadInputError,
    IntegrityError,
    LostRaceError,
    NotFoundError,
    NotVerifiedError,
    RegistryError,
    ScorerError,
)
from .manifest import Alias, File, Manifest, Verification, VersionDetails, VersionSummary, loads, now, parse, validated
from .scorers import scorer_of
from .scorers.lines import score

_TIME = "%Y%m%dT%H%M%S.%fZ"
_LAYOUT = re.compile(
    rf"(?P<model>{names.MODEL})/(?:{names.ALIASES}/(?P<alias>{names.ALIAS})\.json"
    rf"|(?P<version>{names.VERSION_ID})/(?:{re.escape(names.MANIFEST)}|{names.VERIFICATIONS}/(?P<time>{names.TIME})\.json))"
)
_Key = tuple[str, str]
_log = logging.getLogger("mlops.registry")


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

    def store(self, model: str, version_id: str, run_dir: Path, origin: storing.Origin) -> Manifest:
        """Store a finished training; see `storing.store`."""
        return storing.store(self.bucket, self.path, model, version_id, run_dir, origin)

    def list(self, model: str | None = None) -> list[VersionSummary]:
        """All versions, or a model's, by model and age, oldest first; one listing, no read a version."""
        folder = self.path.prefix + (f"{names.model_name(model)}/" if model else "*/")
        objects = f"*/{names.MANIFEST},*/{names.VERIFICATIONS}/*.json,{names.ALIASES}/*.json"
        versions, verdicts, aliases = self._scan(folder, f"{{{objects}}}")
        pointing = collections.defaultdict(list)
        for alias in aliases:
            pointing[alias.model, alias.version_id].append(alias.alias)
        summaries = []
        for key, metadata in versions.items():
            facts = {"model": key[0], "version_id": key[1], "aliases": tuple(sorted(pointing[key]))}
            if key in verdicts:
                facts["verified_at"], verdict = verdicts[key]
                facts["verified"] = "passed" if verdict.get("passed") == "true" else "failed"
                facts |= {name: verdict[name] for name in ("examples", "differing") if name in verdict}
            try:
                try:
                    summary = validated(VersionSummary, {**metadata, **facts}, "its metadata")
                except BadInputError:  # copied by a tool that drops custom metadata: the manifest has it all
                    summary = validated(VersionSummary, {**self._manifest(*key).summary(), **facts}, "its metadata")
            except (BadInputError, IntegrityError) as error:
                _log.warning("version %s/%s is left out of the list: %s", *key, error)
            else:
                summaries.append(summary)
        return sorted(summaries, key=lambda version: (version.model, version.created, version.version_id))

    def aliases(self, model: str | None = None) -> builtins.list[Alias]:
        """All aliases, or a model's."""
        folder = self.path.prefix + (f"{names.model_name(model)}/" if model else "*/")
        _, _, aliases = self._scan(folder, f"{names.ALIASES}/*.json")
        return sorted(aliases, key=lambda alias: (alias.model, alias.alias))

    def show(self, version: str) -> VersionDetails:
        """A version's manifest, its verifications and the aliases that point to it.

        Raises:
            NotFoundError: there is no such version.
        """
        model, version_id = self._resolve(version)
        manifest = self._manifest(model, version_id)
        aliases = tuple(alias.alias for alias in self.aliases(model) if alias.version_id == version_id)
        return VersionDetails(
            manifest=manifest, verifications=tuple(self._verifications(model, version_id)), aliases=aliases
        )

    def verify(self, version: str, *, runner: str = "command") -> Verification:
        """Download a version, check every SHA-256, replay its examples, and record the outcome beside it.

        Args:
            version: which.
            runner: what runs this, for the record.

        Returns:
            The verification, passed or failed. What says nothing about the version (no network, no Node) raises
            instead and records nothing.
        """
        model, version_id = self._resolve(version)
        facts: dict[str, Any] = {"format": None, "examples": 0, "max_difference": None, "message": None}
        facts |= {"tolerance": 0.0, "tools": {}}
        try:
            manifest = self._manifest(model, version_id)
            facts["format"] = manifest.format
            scorer = scorer_of(manifest.format)
            facts["tolerance"] = scorer.TOLERANCE
            with self._local(manifest) as folder:
                facts["tools"] = scorer.tools()
                replayed = _replayed(folder, scorer.command(folder))
            facts["examples"] = len(replayed)
            facts["max_difference"] = max(difference for difference, _ in replayed)
            facts["differing"] = worse = sum(difference > scorer.TOLERANCE or not same for difference, same in replayed)
            if worse:
                labels = sum(not same for _, same in replayed)
                facts["message"] = f"{worse} of {len(replayed)} examples differ by more than {scorer.TOLERANCE:g}" + (
                    f" or in their label ({labels})" if labels else ""
                )
        except IntegrityError as error:
            facts["message"] = str(error)
        except ScorerError as error:
            if not error.definite:
                raise
            facts["message"] = str(error)
        facts["passed"] = facts["message"] is None
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
        self._manifest(model, version_id)
        verifications = self._verifications(model, version_id)
        if not verifications or not verifications[-1].passed:
            why = f"failed ({verifications[-1].message})" if verifications else "is missing"
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

    def predict(self, version: str, rows: Iterable[dict[str, Any]]) -> Iterator[float]:
        """Score rows with a version, or with the version an alias points to, streaming.

        Args:
            version: which version or alias.
            rows: raw column values; see `rows.read`.

        Yields:
            One prediction a row, in order.
        """
        manifest = self._manifest(*self._resolve(version))
        scorer = scorer_of(manifest.format)
        with self._local(manifest) as folder:
            yield from (answer.prediction for answer in score(scorer.command(folder), rows))

    def _scan(
        self, folder: str, objects: str
    ) -> tuple[dict[_Key, dict[str, str]], dict[_Key, tuple[datetime, dict[str, str]]], builtins.list[Alias]]:
        """Metadata of manifests and of the newest verifications, and aliases, from one listing.

        Args:
            folder: the models' folders, as a glob that ends with a slash.
            objects: glob of the objects in them.
        """
        versions: dict[_Key, dict[str, str]] = {}
        verdicts: dict[_Key, tuple[datetime, dict[str, str]]] = {}
        aliases = []
        for item in self.bucket.entries(folder.partition("*")[0], folder + objects):
            match = _LAYOUT.fullmatch(item.name, len(self.path.prefix))
            if not match:
                continue
            key = match["model"], match["version"] or ""
            if match["alias"]:
                try:
                    aliases.append(
                        validated(
                            Alias, {**item.metadata, "model": match["model"], "alias": match["alias"]}, "its metadata"
                        )
                    )
                except BadInputError as error:
                    _log.warning("alias %s/%s is left out: %s", match["model"], match["alias"], error)
            elif match["time"]:
                verdict = datetime.fromisoformat(match["time"]), dict(item.metadata)
                verdicts[key] = max(verdicts.get(key, verdict), verdict, key=itemgetter(0))
            else:
                versions[key] = item.metadata
        return versions, verdicts, aliases

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
        found = []
        for folder in models:
            if is_alias:
                if read := self.bucket.read(self.path.alias(folder, name)):
                    found.append((folder, parse(Alias, read[0], f"alias {name!r} of {folder}").version_id))
            elif self.bucket.read(self.path.version(folder, name, names.MANIFEST)):
                found.append((folder, name))
        if not found:
            self.bucket.check()
            kind = "alias" if is_alias else "version"
            raise NotFoundError(f"no {kind} {version!r} in {self.path}: list the versions to see what there is")
        if len(found) > 1:
            raise BadInputError(
                f"{version!r} is ambiguous: write {' or '.join(f'{folder}/{name}' for folder, _ in found)}"
            )
        return found[0]

    def _manifest(self, model: str, version_id: str) -> Manifest:
        found = self.bucket.read(self.path.version(model, version_id, names.MANIFEST))
        if found is None:
            self.bucket.check()
            raise NotFoundError(
                f"no version {model}/{version_id} in {self.path}: list the versions to see what there is"
            )
        try:
            manifest = parse(Manifest, found[0], f"the manifest of {version_id}")
        except BadInputError as error:
            raise IntegrityError(str(error)) from None
        if (manifest.model, manifest.version_id) != (model, version_id):
            raise IntegrityError(
                f"the manifest of {model}/{version_id} is that of {manifest.model}/{manifest.version_id}"
            )
        return manifest

    def _verifications(self, model: str, version_id: str) -> builtins.list[Verification]:
        """A version's verifications, oldest first, read in full."""
        folder = self.path.version(model, version_id, f"{names.VERIFICATIONS}/")
        stored = sorted(item.name for item in self.bucket.entries(folder))
        found = [
            (name, self.bucket.read(name))
            for name in stored
            if re.fullmatch(rf"{names.TIME}\.json", name.removeprefix(folder))
        ]
        return [parse(Verification, read[0], f"gs://{self.path.bucket}/{name}") for name, read in found if read]

    @contextmanager
    def _local(self, manifest: Manifest) -> Iterator[Path]:
        """The version's files in a temporary folder, each with the SHA-256 that the manifest says."""
        with tempfile.TemporaryDirectory(prefix="mlops-registry-") as temporary:
            try:
                for file in manifest.files:
                    self._fetch(manifest, file, Path(temporary) / file.path)
            except OSError as error:
                raise RegistryError(
                    f"{manifest.version_id} cannot be kept in {temporary} ({error.strerror}): make room, or set TMPDIR"
                ) from None
            yield Path(temporary)

    def _fetch(self, manifest: Manifest, file: File, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # bytes lost on the way come right the second time
            if not self.bucket.download(self.path.version(manifest.model, manifest.version_id, file.path), target):
                raise IntegrityError(f"{file.path} of {manifest.version_id} is missing in {self.path}")
            with target.open("rb") as downloaded:
                if hashlib.file_digest(downloaded, "sha256").hexdigest() == file.sha256:
                    return
        raise IntegrityError(f"{file.path} of {manifest.version_id} was changed: its SHA-256 is not the manifest's")

    def _record(self, model: str, version_id: str, facts: dict[str, Any], runner: str) -> Verification:
        time = now()
        verification = Verification(model=model, version_id=version_id, time=time, runner=runner, **facts)
        name = self.path.version(model, version_id, f"{names.VERIFICATIONS}/{time:{_TIME}}.json")
        self.bucket.create(name, verification.json_bytes(), verification.summary())
        return verification


def _replayed(folder: Path, command: list[str]) -> list[tuple[float, bool]]:
    """How far each example's prediction is from the recorded one, and whether its label, if recorded, is the same."""
    try:
        examples = loads((folder / "examples.json").read_bytes(), "examples.json")["examples"]
        rows = [example["input"] for example in examples]
        recorded = [(float(example["prediction"]), example.get("label")) for example in examples]
    except (BadInputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"examples.json holds no examples that can be replayed ({error!r})") from None
    if not recorded:
        raise IntegrityError("examples.json holds no examples, so nothing can be replayed")
    return [
        (abs(old - new.prediction), label is None or label == new.label)
        for (old, label), new in zip(recorded, score(command, rows), strict=True)
    ]
