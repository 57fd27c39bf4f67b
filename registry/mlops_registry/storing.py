"""Storing a finished training: the store task.

Owns RUN_DIR's end: what training.json lists is uploaded, the manifest last, and then the directory goes. Every step can
be repeated after a kill at any point.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import names
from .bucket import Bucket
from .errors import BadInputError, ConflictError, NothingToStoreError
from .manifest import Engine, File, Lane, Manifest, Training, loads, parse, validated
from .names import MANIFEST, BucketPath

_log = logging.getLogger("mlops_registry")

TRAINING = "training.json"
# No parameter of a run can name a file like these.
STOPPED = ".stopped"
STORED = ".stored"
"""Marks a training's directory as no longer needed."""


@dataclass(frozen=True)
class Origin:
    """Who made a version where.

    Attributes:
        lane: the engine's kind.
        run: the dispatched job or workflow.
        allocation: the allocation or pod.
        images: container images that ran.
    """

    lane: Lane
    run: str
    allocation: str
    images: Sequence[str] = ()


def store(bucket: Bucket, path: BucketPath, model: str, version_id: str, run_dir: Path, origin: Origin) -> Manifest:
    """Store a finished training as a version; storing the same again succeeds.

    Args:
        bucket: where to.
        path: where in it.
        model: the pipeline's name.
        version_id: the version's id.
        run_dir: the training's directory. It is removed afterwards if it bears the version's id.
        origin: who made it where.

    Returns:
        The manifest as it stands in the bucket.

    Raises:
        NothingToStoreError: no finished training is there, and no such version is stored.
        BadInputError: the training's files are not what training.json says.
        ConflictError: the version exists with other bytes.
    """
    name = path.version(model, version_id, MANIFEST)
    (run_dir / STOPPED).unlink(missing_ok=True)
    if not (run_dir / TRAINING).is_file():
        manifest = _stored_whole(bucket, path, model, version_id)
        if manifest is None:
            raise NothingToStoreError(
                f"nothing to store: {run_dir} holds no {TRAINING}, and no version {version_id} is stored"
            )
    else:
        manifest = _manifest(model, version_id, run_dir, origin)
        for file in manifest.files:
            bucket.create(path.version(model, version_id, file.path), run_dir / file.path)
        try:
            bucket.create(name, manifest.json_bytes(), manifest.summary())
        except ConflictError:
            # A repeat from a copied directory differs in the time alone, which is then the first one's.
            found = bucket.read(name)
            existing = parse(Manifest, found[0], f"the stored manifest of {version_id}") if found else None
            if existing is None or existing != manifest.model_copy(update={"created": existing.created}):
                raise
            manifest = existing
    try:
        if _is_run_dir(run_dir, version_id):
            (run_dir / STORED).touch()
            clear(run_dir, version_id)
    except (BadInputError, OSError) as error:  # the version is stored; `clear` tries again
        _log.warning("%s", error)
    return manifest


def clear(run_dir: Path, version_id: str) -> str | None:
    """Remove a run's directory, if it is one and holds no finished training that was not stored.

    Returns:
        Why something is left; None if nothing is.

    Raises:
        BadInputError: it cannot be removed.
    """
    if not os.path.lexists(run_dir):
        return None
    if not _is_run_dir(run_dir, names.version_id(version_id)):
        return f"{run_dir} is not a directory of the version's id and is kept"
    # A bucket that was out of reach for longer than the store task's attempts must not cost the training.
    unwanted = (run_dir / STORED).is_file() or (run_dir / STOPPED).is_file()
    if (run_dir / TRAINING).is_file() and not unwanted:
        return f"{run_dir} holds a finished training and is kept: `mlops-registry store` stores it"
    try:
        # First, so that a removal cut short does not look like a finished training.
        (run_dir / TRAINING).unlink(missing_ok=True)
        shutil.rmtree(run_dir)
    except OSError as error:
        raise BadInputError(f"{run_dir} cannot be removed ({error.strerror}): remove it by hand") from None
    return None


def give_up(run_dir: Path, version_id: str) -> None:
    """Say of a training that its run was stopped before it was stored: `clear` removes it, `store` takes that back."""
    if _is_run_dir(run_dir, version_id):
        (run_dir / STOPPED).touch()


def _is_run_dir(run_dir: Path, version_id: str) -> bool:
    return run_dir.name == version_id and run_dir.is_dir() and not run_dir.is_symlink()


def _stored_whole(bucket: Bucket, path: BucketPath, model: str, version_id: str) -> Manifest | None:
    found = bucket.read(path.version(model, version_id, MANIFEST))
    if found is None:
        bucket.check()
        return None
    manifest = parse(Manifest, found[0], f"the stored manifest of {version_id}")
    folder = path.version(model, version_id)
    stored = {item.name.removeprefix(folder) for item in bucket.entries(folder)}
    missing = sorted({file.path for file in manifest.files} - stored)
    if missing:
        raise ConflictError(
            f"version {version_id} is stored without {', '.join(missing)}: train again under another version id"
        )
    return manifest


def _manifest(model: str, version_id: str, run_dir: Path, origin: Origin) -> Manifest:
    written = run_dir / TRAINING
    try:
        training = parse(Training, written.read_bytes(), TRAINING)
        root = run_dir.resolve()
        for file in training.files:
            _check(root, file)
        metrics = loads((run_dir / "metrics.json").read_bytes(), "metrics.json")
        created = datetime.fromtimestamp(int(written.stat().st_mtime), UTC)
    except OSError as error:
        raise BadInputError(
            f"{error.filename or run_dir} cannot be read ({error.strerror}), so nothing was stored"
        ) from None
    facts = {
        **training.model_dump(),
        "model": model,
        "version_id": version_id,
        "created": created,
        "lane": origin.lane,
        "engine": Engine(run=origin.run, allocation=origin.allocation),
        "images": tuple(origin.images),
        "metrics": metrics,
    }
    return validated(Manifest, facts, "the manifest")


def _check(root: Path, file: File) -> None:
    local = (root / file.path).resolve()
    if not local.is_relative_to(root):
        raise BadInputError(f"{file.path} leads out of the run's directory, so nothing was stored")
    with local.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if local.stat().st_size != file.size or digest != file.sha256:
        raise BadInputError(
            f"{file.path} is not the file that {TRAINING} lists (size or SHA-256 differs), so nothing was stored: "
            "train again"
        )
